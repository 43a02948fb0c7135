"""``Comparison``: fits every method to every budget, tunes it on other prompts if given, and runs it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steer.evaluate.compare.budgets import Budget, Spent, fit
from steer.evaluate.compare.folder import Folder
from steer.evaluate.compare.measure import Measurer, Row
from steer.evaluate.compare.spec import Entry
from steer.render.spec import Task
from steer.settings.strict_json import json_text

Tell = Callable[[str, int, int], None]
"""Called with the present work, the number of finished parts and their total."""

PILOT = 8
"""Most prompts for fitting seconds; evaluations need one."""


@dataclass(frozen=True)
class Cell:
    """One entry at one budget, with its rows in the prompts' order.

    Attributes:
        entry: as fitted.
        budget: per prompt, or ``None`` without a budget.
        rows: one per sample.
        tuned: the scores of its family's variants on the tuning prompts, if there was a choice.
    """

    entry: Entry
    budget: Budget | None
    rows: tuple[Row, ...]
    tuned: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """Its name in the folder."""
        return cell_name(self.entry, self.budget)


def cell_name(entry: Entry, budget: Budget | None, split: str = "") -> str:
    """Return a cell's name in the folder; entries with the same label and other options have other names."""
    name = entry.label if budget is None else f"{entry.label} @ {budget.key}"
    what = json_text([entry.methods, entry.options, entry.settings, entry.choose], sort_keys=True)
    return f"{split} {name} {hashlib.blake2b(what.encode(), digest_size=4).hexdigest()}".strip()


def silent(what: str, done: int, total: int) -> None:
    """Ignore the progress."""


class Comparison:
    """Runs the parts that a folder lacks."""

    def __init__(
        self,
        measurer: Measurer,
        folder: Folder,
        tasks: Sequence[Task],
        *,
        tuning: Sequence[Task] = (),
        success: float | None = None,
        examples: Sequence[int] = (),
        tell: Tell = silent,
    ) -> None:
        """Args:
        measurer: samples and judges.
        folder: keeps rows; already open.
        tasks: the samples to draw, the same for every entry.
        tuning: other tasks, on which one of several variants is chosen.
        success: the least score of the first judge that counts as a success; tuning maximizes successes then.
        examples: numbers of the prompts whose images are kept.
        tell: called with the progress of each part.
        """
        self.measurer, self.folder, self.tasks, self.tuning = measurer, folder, tuple(tasks), tuple(tuning)
        self.success, self.examples, self.tell = success, frozenset(examples), tell
        self._spent: dict[str, Spent] = {}

    def run(self, entries: Sequence[Entry], budgets: Sequence[Budget]) -> list[Cell]:
        """Return all cells, budget by budget.

        Raises:
            SteerError: for a budget that is too small, before anything long is run.
        """
        chances: list[Budget | None] = [*budgets] or [None]
        fitted: dict[tuple[str, Budget | None], Entry] = {}
        total = len(chances) * len(entries) if budgets else 0
        for number, budget in enumerate(chances):
            takes_less = number > 0 and budget is not None and budget.kind == getattr(chances[number - 1], "kind", None)
            for entry in entries:
                fitted[entry.label, budget] = self._fitted(entry, budget, takes_less)
                if total:
                    self.tell("fitting to budgets", len(fitted), total)
        cells = []
        for budget in chances:
            families: dict[str, list[Entry]] = {}
            for entry in entries:
                families.setdefault(entry.family, []).append(fitted[entry.label, budget])
            for variants in families.values():
                tuned: tuple[tuple[str, float], ...] = ()
                if self.tuning and len(variants) > 1:
                    best, tuned = self._tuned(variants, budget)
                    variants = [best]
                cells += [
                    Cell(entry, budget, self._rows(cell_name(entry, budget), entry, self.tasks), tuned)
                    for entry in variants
                ]
        return cells

    def _fitted(self, entry: Entry, budget: Budget | None, takes_less: bool) -> Entry:
        if budget is None:
            return entry
        name = cell_name(entry, budget)
        known = self.folder.fit(name)
        if known is None:
            plugins = self.measurer.plugins
            known = fit(entry, budget, self._trial(budget), plugins, takes_less=takes_less)
            self.folder.keep_fit(name, known)
        return known

    def _trial(self, budget: Budget) -> Callable[[Entry], Spent]:
        tasks = self.tuning or self.tasks
        count = 1 if budget.kind == "nfe" else min(PILOT, len(tasks))
        pilot = [tasks[index * len(tasks) // count] for index in range(count)]
        warm = False

        def trial(entry: Entry) -> Spent:
            nonlocal warm
            key = cell_name(entry, None)
            # budgets begin with the same small populations; one bad reading of a clock must not count for all of them
            if budget.kind == "nfe" and key in self._spent:
                return self._spent[key]
            if not warm and budget.kind == "seconds":  # setup at the first use is not part of the time
                self.measurer.trial(entry, pilot[:1])
                warm = True
            spent = self.measurer.trial(entry, pilot)
            if budget.kind == "nfe":
                self._spent[key] = spent
            return spent

        return trial

    def _tuned(self, variants: Sequence[Entry], budget: Budget | None) -> tuple[Entry, tuple[tuple[str, float], ...]]:
        scores = {}
        for entry in variants:
            rows = self._rows(cell_name(entry, budget, "tuning"), entry, self.tuning)
            scores[entry.label] = float(np.mean([verdict(row, self.success) for row in rows]))
        best = max(variants, key=lambda entry: scores[entry.label])
        return best, tuple(scores.items())

    def _rows(self, name: str, entry: Entry, tasks: Sequence[Task]) -> tuple[Row, ...]:
        kept = self.folder.rows(name)
        done = {
            task.prompt.id: row
            for task in tasks
            if (row := kept.get(task.prompt.id)) is not None
            and (row["index"], row["replicate"]) == (task.index, task.replicate)
            and self.measurer.fits(row)
        }
        missing = [task for task in tasks if task.prompt.id not in done]
        keep = not name.startswith("tuning ")
        if missing:
            shown = name.rpartition(" ")[0]
            before = len(tasks) - len(missing)
            self.tell(shown, before, len(tasks))
            for number, measured in enumerate(self.measurer.rows(entry, missing), start=before + 1):
                row = measured.row
                if keep and measured.image is not None and row["index"] in self.examples and row["replicate"] == 0:
                    self.folder.keep_image(name, row["index"], measured.image)
                self.folder.add(name, [row])
                done[row["id"]] = row
                self.tell(shown, number, len(tasks))
        return tuple(done[task.prompt.id] for task in tasks)


def verdict(row: Row, success: float | None) -> float:
    """Return a row's score by the first judge; with ``success``, 1 or 0.

    If nothing was chosen, it is the mean over the particles.
    """
    name = next(iter(row["judge"]))
    if success is None:
        return float(row["judge"][name])
    values = row["judges"][name]
    return float(np.mean([values[index] >= success for index in row["chosen"]]))
