"""``Comparison``: fits every method to every budget, tunes it on other prompts if given, and runs it."""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steer.errors import SteerError
from steer.evaluate.compare.budgets import Budget, fit
from steer.evaluate.compare.folder import Folder
from steer.evaluate.compare.measure import Measurer, Row
from steer.evaluate.compare.spec import Entry
from steer.evaluate.compare.trials import Trials
from steer.render.spec import Task
from steer.settings.strict_json import json_text

Tell = Callable[[str, int, int], None]
"""Called with the present work, the number of finished parts and their total."""

ROUND = 48
"""Samples that an entry draws before the next one's turn if seconds are compared, rounded up to full batches."""

Scores = tuple[tuple[str, float], ...]
"""Labels of variants with their scores on the tuning prompts."""


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
    tuned: Scores = ()

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
        self._checked: set[str] = set()
        self._trials = Trials(measurer, self.tuning or self.tasks)

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
        cells: list[Cell] = []
        for budget in chances:
            families: dict[str, list[Entry]] = {}
            for entry in entries:
                families.setdefault(entry.family, []).append(fitted[entry.label, budget])
            chosen = [each for variants in families.values() for each in self._chosen(variants, budget)]
            if budget is not None and budget.kind == "seconds":
                self._in_turn([entry for entry, _ in chosen], budget)
            cells += [
                Cell(entry, budget, self._rows(cell_name(entry, budget), entry, self.tasks), tuned)
                for entry, tuned in chosen
            ]
        return cells

    def _fitted(self, entry: Entry, budget: Budget | None, takes_less: bool) -> Entry:
        if budget is None:
            return entry
        name = cell_name(entry, budget)
        known = self.folder.fit(name)
        if known is None:
            plugins = self.measurer.plugins
            known = fit(entry, budget, self._trials.of(budget.kind), plugins, takes_less=takes_less)
            self.folder.keep_fit(name, known)
        return known

    def _chosen(self, variants: Sequence[Entry], budget: Budget | None) -> list[tuple[Entry, Scores]]:
        """Return the best variant of a family with the scores of all, or all if there are no prompts to tune on."""
        if not self.tuning or len(variants) == 1:
            return [(entry, ()) for entry in variants]
        best, tuned = self._tuned(variants, budget)
        return [(best, tuned)]

    def _in_turn(self, entries: Sequence[Entry], budget: Budget) -> None:
        """Draw some samples of each entry, then the next ones, so that a slow quarter of an hour is everyone's."""
        waiting = [(entry, deque(self.measurer.packs(entry, self.tasks))) for entry in entries]
        while any(packs for _, packs in waiting):
            for entry, packs in waiting:
                turn: list[Task] = []
                while packs and len(turn) < ROUND:
                    turn += packs.popleft()
                self._rows(cell_name(entry, budget), entry, self.tasks, among=turn)

    def _tuned(self, variants: Sequence[Entry], budget: Budget | None) -> tuple[Entry, Scores]:
        scores = {}
        for entry in variants:
            rows = self._rows(cell_name(entry, budget, "tuning"), entry, self.tuning)
            scores[entry.label] = float(np.mean([verdict(row, self.success) for row in rows]))
        best = max(variants, key=lambda entry: scores[entry.label])
        return best, tuple(scores.items())

    def _rows(
        self, name: str, entry: Entry, tasks: Sequence[Task], among: Sequence[Task] | None = None
    ) -> tuple[Row, ...]:
        """Return a cell's rows after drawing those that the folder lacks; with ``among``, of these tasks alone."""
        kept = self.folder.rows(name)
        done = {
            task.prompt.id: row
            for task in tasks
            if (row := kept.get(task.prompt.id)) is not None
            and (row["index"], row["replicate"]) == (task.index, task.replicate)
            and self.measurer.fits(row)
        }
        missing = [task for task in (tasks if among is None else among) if task.prompt.id not in done]
        self._check_sources(name, entry, tasks[0], whole=len(done) == len(tasks))
        keep = not name.startswith("tuning ")
        if missing:
            shown = name.rpartition(" ")[0]
            before = len(done)
            self.tell(shown, before, len(tasks))
            for number, measured in enumerate(self.measurer.rows(entry, missing), start=before + 1):
                row = measured.row
                if keep and measured.image is not None and row["index"] in self.examples and row["replicate"] == 0:
                    self.folder.keep_image(name, row["index"], measured.image)
                self.folder.add(name, [row])
                done[row["id"]] = row
                self.tell(shown, number, len(tasks))
        return tuple(done[task.prompt.id] for task in tasks if task.prompt.id in done)

    def _check_sources(self, name: str, entry: Entry, task: Task, *, whole: bool) -> None:
        """Check once that a cell's samples come from the weights and files that there are now.

        Args:
            whole: nothing is missing, so that weights which are no longer there are not needed either.
        """
        if name in self._checked:
            return
        self._checked.add(name)
        try:
            sources = self.measurer.sources(entry, task.prompt)
        except SteerError:
            if not whole:
                raise
            return
        self.folder.check_sources(name, sources)


def verdict(row: Row, success: float | None) -> float:
    """Return a row's score by the first judge; with ``success``, 1 or 0.

    If nothing was chosen, it is the mean over the particles.
    """
    name = next(iter(row["judge"]))
    if success is None:
        return float(row["judge"][name])
    values = row["judges"][name]
    return float(np.mean([values[index] >= success for index in row["chosen"]]))
