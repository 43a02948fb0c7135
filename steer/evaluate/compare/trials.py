"""``Trials``: the cost of an entry on a few prompts, with seconds as if the machine kept the pace of the beginning."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Protocol

from steer.evaluate.compare.budgets import Spent, Trial
from steer.evaluate.compare.spec import Entry
from steer.render.spec import Task

PROMPTS = 4
"""Fewest prompts of a trial in seconds; evaluations need one."""
READINGS = 3
"""Passes over the prompts of a trial in seconds, if one is short."""
SHORT = 2.0
"""Seconds of a reading that is repeated; what comes and goes within a longer one is in its mean already."""


class Measures(Protocol):
    """What trials need of a measurer."""

    def trial(self, entry: Entry, tasks: Sequence[Task]) -> Spent:
        """Sample some tasks and return the cost per prompt."""
        ...

    def together(self, entry: Entry, tasks: Sequence[Task]) -> int:
        """Return how many prompts of an entry are sampled together."""
        ...


class Trials:
    """Runs entries on a few prompts to learn their costs.

    A batch that is not full costs as much as a full one, so a trial in seconds takes as many prompts as the run itself
    samples together.

    A machine's pace changes within minutes: others use its cores, a GPU gets hot. An entry that is tried while it is
    slow would get a smaller population than one that is tried while it is fast. So before each trial in seconds, the
    same work is timed, a yardstick: the first entry tried, on one prompt. The trial counts by its ratio to that.
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
        pace = yardstick()
        together = self._measurer.together(entry, self._tasks)
        pilot = self._pilot(-(-PROMPTS // together) * together)
        spent = self._measurer.trial(entry, pilot)
        seconds = _middle(lambda: self._measurer.trial(entry, pilot).seconds, len(pilot), spent.seconds)
        return replace(spent, seconds=seconds * at_first / pace)

    def _made(self, entry: Entry) -> tuple[Callable[[], float], float]:
        """Return the yardstick and its seconds now; setup at the first use is not part of them."""
        pilot = self._pilot(1)

        def once() -> float:
            return max(self._measurer.trial(entry, pilot).seconds, 1e-9)

        def yardstick() -> float:
            return _middle(once, 1, once())

        once()
        return yardstick, yardstick()

    def _pilot(self, most: int) -> list[Task]:
        count = min(most, len(self._tasks))
        return [self._tasks[index * len(self._tasks) // count] for index in range(count)]


def _middle(read: Callable[[], float], count: int, first: float) -> float:
    """Return the median of some readings, or the first if that is long; each is a mean over ``count`` prompts."""
    more = 0 if first * count > SHORT else READINGS - 1
    return median([first, *(read() for _ in range(more))])
