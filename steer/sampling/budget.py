"""Budgets of a search, counted prompt by prompt so that none depends on what else is in the pack."""

import time
import warnings
from collections.abc import Sequence

from steer.errors import SteerError
from steer.results.cost import exact
from steer.sampling.hooks import outside
from steer.sampling.method import Method, acting_hooks
from steer.sampling.run import Run


class Budget:
    """The evaluations and seconds that a search may still spend; both may be unlimited.

    Evaluations are those of :attr:`Run.spent`, a prompt's own. Time is the pack's, so many seconds times its
    prompts: what a clock decides depends on the machine, and its outcome belongs into the recipe
    (:meth:`steer.Method.replay_options`).
    """

    def __init__(self, run: Run, *, nfe: int | None = None, seconds: float | None = None) -> None:
        """Args: run: its books; nfe: evaluations per prompt; seconds: per prompt, on average over the pack."""
        self._run, self._nfe, self._seconds = run, nfe, seconds
        self._before = run.spent.clone()
        self._began = self._round = time.perf_counter()
        self._last_round = 0.0
        self._warned = False

    @property
    def sample_cost(self) -> int:
        """Denoiser evaluations that one plain sample takes."""
        return self._run.sample_cost

    @property
    def steps(self) -> int:
        """Denoiser evaluations of one plain sample, guidance left out."""
        return self._run.process().length

    def left(self, job: int) -> float | None:
        """Return how many evaluations a prompt may still take, ``None`` for any number."""
        if self._nfe is None:
            return None
        return self._nfe - float(self._run.spent[job] - self._before[job])

    def affords(self, job: int, evaluations: float) -> bool:
        """Whether a prompt may take so many more."""
        left = self.left(job)
        return left is None or left >= evaluations

    def end_round(self) -> None:
        """Note that a round ended, for the length of the next one; the first begins with the budget.

        The cost of a round of other methods is known only afterward, so it may overdraw the budget: a warning says so.
        """
        now = time.perf_counter()
        self._last_round, self._round = now - self._round, now
        most = exact(float((self._run.spent - self._before).max()))
        if self._nfe is not None and most > self._nfe and not self._warned:
            self._warned = True
            warnings.warn(
                f"the budget of {self._nfe} evaluations per prompt was overdrawn: the methods within took {most}",
                stacklevel=2,
            )

    def in_time(self) -> bool:
        """Whether another round as long as the last one would end in time."""
        if self._seconds is None:
            return True
        return self._round - self._began + self._last_round <= self._seconds * len(self._run.jobs)

    def spent(self, jobs: Sequence[int]) -> list[float]:
        """Return what each row's prompt has spent in this search."""
        spent = (self._run.spent - self._before).tolist()
        return [exact(spent[job]) for job in jobs]


def outer_search(run: Run, method: Method) -> str | None:
    """Return the name of a search around a method that runs its search again and again, or ``None``."""
    return next((other.name for other in outside(run, method) if "search" in acting_hooks([other])), None)


def refuse_inner_clock(run: Run, method: Method, seconds: float | None) -> None:
    """Raise if a search within another one has a clock: a recipe holds one number, not one per round.

    Raises:
        SteerError: naming both.
    """
    outer = outer_search(run, method)
    if seconds is not None and outer is not None:
        raise SteerError(
            f"{method.name}.seconds={seconds:g} within {outer} cannot be replayed, as each round has its own clock; "
            f"give {outer}.seconds, or {method.name} a budget in evaluations (nfe)"
        )
