"""The best of independent samples: a fixed number, or as many as a budget allows."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from steer import Options, State, SteerError, hookimpl
from steer.plugin import Budget, Run, Start
from steer_search.base import Search
from steer_search.options import DEFAULT_N, BestOfNOptions, IndependentOptions
from steer_search.pool import Pool
from steer_search.stopping import FEWEST, expected_gain


class Independent(Search):
    """Populations with fresh seeds, one after another; each prompt's best sample is kept.

    Slots are 0, 1, 2 … regardless of rounds. So n samples are the same in any packing, and a smaller n gives the first
    of them.
    """

    Options: ClassVar[type[Options]] = IndependentOptions
    options: IndependentOptions
    size_option = "n"
    independent = True

    @property
    def min_gain(self) -> float | None:
        """Expected gain in the best reward below which a prompt is done; ``None`` for no limit."""
        return None

    @hookimpl
    def search(self, run: Run, sample: Callable[..., State]) -> State:
        """Draw rounds until every prompt has its samples or its budget is spent."""
        self.check_seeds_are_ours(run)
        self.drawn = {}
        seen: dict[int, list[float]] = {}
        total, budget, pool = self._total(run), self.budget(run), Pool(run, self.options.keep)
        start: Start | None = self._first(run, total, budget)
        while start is not None:
            before = run.spent.clone()
            state = sample(start)
            rewards = pool.add(state, "seed", budget.spent(jobs := state.job.tolist()))
            for job, reward in zip(jobs, rewards.tolist(), strict=True):
                seen.setdefault(job, []).append(reward)
            for job in start.job.tolist():
                self.drawn[job] = self.drawn.get(job, 0) + 1
            budget.end_round()
            run.hooks.hook.after_round(run=run, done=max(self.drawn.values()), total=total)
            rounds = (run.spent - before).tolist()
            start = self._next(run, pool, budget, total, start, rounds)
            if start is not None:
                start = self._worth(start, seen)
        return pool.state

    def population(self, run: Run) -> int:
        """Return at most what a budget allows, because packs are sized so that populations fill batches."""
        if self.options.nfe is None or self.nested(run):
            return self.particles
        return max(1, min(self.particles, self.options.nfe // self.budget(run).sample_cost))

    def _worth(self, start: Start, seen: Mapping[int, list[float]]) -> Start | None:
        """Leave out prompts whose next sample is expected to gain too little."""
        least = self.min_gain
        if least is None:
            return start
        done = [job for job, values in seen.items() if len(values) >= FEWEST and expected_gain(values) < least]
        rows = (~torch.isin(start.job, torch.tensor(done, dtype=torch.int64))).nonzero().flatten()
        return start.take(rows) if len(rows) else None

    def _total(self, run: Run) -> int | None:
        """Return the samples per prompt, or ``None`` if only a budget ends the search."""
        total = self.options.n
        if total is not None and self.nested(run) and total % run.particles:
            raise SteerError(
                f"{self.name}.n={total} is not a multiple of the {run.particles} particles that the other methods use; "
                f"set {self.name}.n={-(-total // run.particles) * run.particles}, or another --particles"
            )
        return total

    def _first(self, run: Run, total: int | None, budget: Budget) -> Start:
        """Return the rows of the first round, limited by the total and the budget."""
        jobs = run.start.job.unique().tolist()
        size = len(run.start) // len(jobs)
        if not self.nested(run):
            cost = budget.sample_cost
            if not budget.affords(jobs[0], cost):
                raise SteerError(
                    f"{self.name}.nfe={self.options.nfe} is less than one sample takes ({cost}); raise it, or lower "
                    "--steps"
                )
            size = self._size(budget, jobs[0], size, total, cost)
        if size == len(run.start) // len(jobs):
            return run.start
        return Start.of(jobs, range(size))

    def _next(
        self, run: Run, pool: Pool, budget: Budget, total: int | None, last: Start, rounds: list[int]
    ) -> Start | None:
        """Return the rows of the next round, or ``None`` at the end."""
        if not budget.in_time():
            return None
        target = self.options.target
        jobs = [job for job in last.job.unique().tolist() if total is None or self.drawn[job] < total]
        jobs = [job for job in jobs if target is None or pool.best(job) < target]
        size = run.particles
        if self.nested(run):
            jobs = [job for job in jobs if budget.affords(job, rounds[job])]
        else:
            cost = budget.sample_cost
            jobs = [job for job in jobs if budget.affords(job, cost)]
            if jobs:  # all prompts have drawn and spent equally
                size = self._size(budget, jobs[0], size, total, cost)
        return run.fresh_start(jobs, size) if jobs else None

    def _size(self, budget: Budget, job: int, size: int, total: int | None, cost: int) -> int:
        left = budget.left(job)
        if left is not None:
            size = min(size, int(left // cost))
        return size if total is None else min(size, total - self.drawn.get(job, 0))

    def counts(self, job: int) -> Mapping[str, Any]:
        """Return the number of samples."""
        return {"n": self.drawn[job]}


class BestOfN(Independent):
    """The best of n samples per prompt: the baseline for every other method.

    Compared with ``--particles n``, it adds budgets, rounds whose memory does not grow with n, and other methods can
    take part in each round.
    """

    name = "best-of-n"
    Options = BestOfNOptions
    options: BestOfNOptions

    @property
    def min_gain(self) -> float | None:
        """Return the option ``min_gain``."""
        return self.options.min_gain

    def population(self, run: Run) -> int:
        """Return n or what a budget allows, up to a size at which batches are full."""
        return min(self.options.n or DEFAULT_N, super().population(run))

    def _total(self, run: Run) -> int | None:
        total = super()._total(run)
        if total is not None or self.options.nfe is not None or self.options.seconds is not None:
            return total  # without n, the whole budget is spent
        # without n, the number of particles that the user or a method set is n
        return run.particles


class Random(Independent):
    """Independent samples until a budget is spent or a target is reached; each prompt's best is kept."""

    name = "random"
    Options = IndependentOptions

    @hookimpl(trylast=True)
    def configure(self, run: Run) -> None:
        """Require an option that ends the search."""
        if self.options.n is None and self.options.nfe is None and self.options.seconds is None:
            raise SteerError(
                "random searches until a budget is spent; give one: -o random.nfe=2000, -o random.seconds=60 or "
                "-o random.n=100"
            )
        super().configure(run)
