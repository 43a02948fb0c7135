"""Budgets of a search, counted prompt by prompt so that none depends on what else is in the pack."""

from __future__ import annotations

import time
from collections.abc import Sequence

from steer.run import Run
from steer_search.options import Budgeted


class Budget:
    """What a search may still spend.

    Evaluations are those of :attr:`steer.run.Run.spent`. Time is the pack's: so many seconds times its prompts.
    """

    def __init__(self, run: Run, options: Budgeted) -> None:
        """Args: run: its books; options: the limits, ``None`` where there is none."""
        self._run, self._options = run, options
        self._began = time.perf_counter()
        self._before = run.spent.clone()
        self._last_round = 0.0

    @property
    def sample_cost(self) -> int:
        """Denoiser evaluations that one plain sample takes."""
        guided = self._run.backbone.guided(float(self._run.get(self._run.backbone.cfg_setting)))
        return self._run.process().length * (2 if guided else 1)

    def left(self, job: int) -> int | None:
        """Return how many evaluations a prompt may still take, ``None`` for any number."""
        if self._options.nfe is None:
            return None
        return self._options.nfe - int(self._run.spent[job] - self._before[job])

    def affords(self, job: int, evaluations: float) -> bool:
        """Whether a prompt may take so many more."""
        left = self.left(job)
        return left is None or left >= evaluations

    def in_time(self) -> bool:
        """Whether another round as long as the last one would end in time."""
        if self._options.seconds is None:
            return True
        end = time.perf_counter() - self._began + self._last_round
        return end <= self._options.seconds * len(self._run.jobs)

    def time_round(self, began: float) -> None:
        """Note how long a round took that began at ``began`` of ``time.perf_counter``."""
        self._last_round = time.perf_counter() - began

    def spent(self, jobs: Sequence[int]) -> list[int]:
        """Return what each row's prompt has spent in this search."""
        spent = (self._run.spent - self._before).tolist()
        return [spent[job] for job in jobs]
