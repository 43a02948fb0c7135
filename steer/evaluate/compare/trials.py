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

YARDSTICK = Entry("yardstick", "yardstick", settings={"particles": 1, "chunk": 1})
"""The work that tells a machine's pace: one plain sample."""


class Measures(Protocol):
    """What trials need of a measurer."""

    def trial(self, entry: Entry, tasks: Sequence[Task]) -> Spent:
        """Sample some tasks and return the cost per prompt."""
        ...

    def packs(self, entry: Entry, tasks: Sequence[Task]) -> list[list[Task]]:
        """Return the tasks as an entry samples them together."""
        ...

    def fills(self, entry: Entry, task: Task) -> bool:
        """Whether an entry's particles for one prompt fill whole batches, so that nothing is padded."""
        ...


class Trials:
    """Runs entries on a few prompts to learn their costs.

    A batch that is not full costs as much as a full one, so a trial in seconds takes as many prompts as the run itself
    samples together, unless one prompt fills batches.

    A machine's pace changes within minutes: others use its cores, a GPU gets hot. An entry that is tried while it is
    slow would get a smaller population than one that is tried while it is fast. So before each trial in seconds, the
    same small work is timed, a yardstick. The trial counts by its ratio to that.
    """

    def __init__(self, measurer: Measures, tasks: Sequence[Task]) -> None:
        """Args:
        measurer: samples.
        tasks: some are taken from it.
        """
        self._measurer, self._tasks = measurer, tuple(tasks)
        self._known: dict[str, Spent] = {}
        self._warm: set[str] = set()
        self._at_first: float | None = None

    def of(self, kind: str) -> Trial:
        """Return the function that tries an entry for budgets of a kind, ``"nfe"`` or ``"seconds"``."""
        return self._evaluations if kind == "nfe" else self._seconds

    def _evaluations(self, entry: Entry) -> Spent:
        key = repr(entry)
        if key not in self._known:
            self._known[key] = self._measurer.trial(entry, self._tasks[:1])
        return self._known[key]

    def _seconds(self, entry: Entry) -> Spent:
        # not kept: one bad reading must not count for all budgets, which begin with the same small populations
        pilot = self._pilot(entry)  # before any clock is read, because it refuses sizes that the entry cannot have
        self._warm_up(entry)
        pace = self._pace()
        if self._at_first is None:
            self._at_first = pace
        spent = self._measurer.trial(entry, pilot)
        seconds = _middle(lambda: self._measurer.trial(entry, pilot).seconds, len(pilot), spent.seconds)
        return replace(spent, seconds=seconds * self._at_first / pace)

    def _pace(self) -> float:
        """Return the seconds of the yardstick now."""
        self._warm_up(YARDSTICK)

        def once() -> float:
            return max(self._measurer.trial(YARDSTICK, self._tasks[:1]).seconds, 1e-9)

        return _middle(once, 1, once())

    def _warm_up(self, entry: Entry) -> None:
        """Sample one prompt the first time: setup at the first use is not part of the time."""
        if entry.label not in self._warm:
            self._measurer.trial(entry, self._tasks[:1])
            self._warm.add(entry.label)

    def _pilot(self, entry: Entry) -> list[Task]:
        """Return whole packs with enough prompts, the largest first; some prompts if each fills batches by itself."""
        if self._measurer.fills(entry, self._tasks[0]):
            count = min(PROMPTS, len(self._tasks))
            return [self._tasks[index * len(self._tasks) // count] for index in range(count)]
        pilot: list[Task] = []
        for pack in sorted(self._measurer.packs(entry, self._tasks), key=len, reverse=True):
            if len(pilot) < PROMPTS:
                pilot += pack
        return pilot


def _middle(read: Callable[[], float], count: int, first: float) -> float:
    """Return the median of some readings, or the first if that is long; each is a mean over ``count`` prompts."""
    more = 0 if first * count > SHORT else READINGS - 1
    return median([first, *(read() for _ in range(more))])
