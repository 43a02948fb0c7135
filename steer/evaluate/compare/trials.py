"""``Trials``: the cost of an entry on a few prompts, with seconds as if the machine kept the pace of the beginning."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Protocol

from steer.evaluate.compare.budgets import Spent, Trial
from steer.evaluate.compare.spec import Entry
from steer.render.spec import Task

PROMPTS = 4
"""Most prompts of a trial in seconds; evaluations need one."""
READINGS = 3
"""Passes over the prompts of a trial in seconds; one, if it is long."""
YARDSTICK = 2
"""Most prompts of the work that tells the machine's pace; one, if it is long."""
LONG = 20.0
"""Seconds of a reading that is not repeated: what comes and goes within them is in their mean already."""


class Measures(Protocol):
    """What trials need of a measurer."""

    def trial(self, entry: Entry, tasks: Sequence[Task]) -> Spent:
        """Sample some tasks and return the cost per prompt."""
        ...


class Trials:
    """Runs entries on a few prompts to learn their costs.

    A machine's pace changes within minutes: others use its cores, a GPU gets hot. An entry that is tried while it is
    slow would get a smaller population than one that is tried while it is fast. So before each reading of a clock the
    same small work is timed, a yardstick: the first entry tried. A reading counts by its ratio to the yardstick's.
    """

    def __init__(self, measurer: Measures, tasks: Sequence[Task]) -> None:
        """Args:
        measurer: samples.
        tasks: some are taken from it, evenly spread.
        """
        self._measurer, self._tasks = measurer, tuple(tasks)
        self._known: dict[str, Spent] = {}
        self._yardstick: tuple[Callable[[], float], float] | None = None

    def of(self, kind: str) -> Trial:
        """Return the function that tries an entry for budgets of a kind, ``"nfe"`` or ``"seconds"``."""
        return self._evaluations if kind == "nfe" else self._seconds

    def _evaluations(self, entry: Entry) -> Spent:
        key = repr(entry)
        if key not in self._known:
            self._known[key] = self._measurer.trial(entry, self._pilot(1))
        return self._known[key]

    def _seconds(self, entry: Entry) -> Spent:
        # not kept: one bad reading must not count for all budgets, which begin with the same small populations
        if self._yardstick is None:
            self._yardstick = self._made(entry)
        yardstick, at_first = self._yardstick
        pilot = self._pilot(PROMPTS)
        ratios: list[float] = []
        while len(ratios) < READINGS:
            pace = yardstick()
            spent = self._measurer.trial(entry, pilot)
            ratios.append(spent.seconds / pace)
            if spent.seconds * len(pilot) > LONG:
                break
        return replace(spent, seconds=at_first * median(ratios))

    def _made(self, entry: Entry) -> tuple[Callable[[], float], float]:
        """Return the yardstick and its seconds now; setup at the first use is not part of them."""
        self._measurer.trial(entry, self._pilot(1))
        pilot = self._pilot(YARDSTICK)
        once = self._measurer.trial(entry, pilot).seconds
        if once * len(pilot) > LONG / YARDSTICK:
            pilot = pilot[:1]

        def yardstick() -> float:
            return max(self._measurer.trial(entry, pilot).seconds, 1e-9)

        return yardstick, median(yardstick() for _ in range(READINGS))

    def _pilot(self, most: int) -> list[Task]:
        count = min(most, len(self._tasks))
        return [self._tasks[index * len(self._tasks) // count] for index in range(count)]
