"""Refinement: noise the best samples part of the way back and denoise them again, round by round.

A sample that is nearly right need not be drawn again. Noised to the middle of the schedule, it keeps its layout and
changes its details (SDEdit, arXiv 2108.01073), at half the cost of a fresh sample. Repeated from the best so far, this
is an evolutionary search that needs no gradient, and whose mutations come from the model itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from steer import State, SteerError, hookimpl
from steer.plugin import Budget, Run, Start
from steer_search.base import Search
from steer_search.options import DEFAULT_N, RefineOptions
from steer_search.pool import Pool, best_first

ROUNDS = 4
MOST = 16
"""Most rows per prompt in a round of seeds."""


class Refine(Search):
    """Draw samples, then rounds of noised copies of the best; methods named after it take part in the first samples."""

    name = "refine"
    Options = RefineOptions
    options: RefineOptions  # type: ignore[assignment]
    clock_option = None

    @hookimpl(trylast=True)
    def configure(self, run: Run) -> None:
        """Require a reward and suggest a population that fills batches."""
        if not run.backbone.continuous:
            raise SteerError(
                f"refine adds noise to samples, which is not possible for a {run.backbone.modality}; use best-of-n, "
                "prune or fk"
            )
        run.backbone.check_predicts("refine")
        self.require_reward(run)
        run.suggest("particles", min(self.options.seeds or DEFAULT_N, MOST), by=self.name)

    @hookimpl
    def search(self, run: Run, sample: Callable[..., State]) -> State:
        """Draw seeds, then refine until the rounds are done or the budget is spent."""
        self.check_seeds_are_ours(run)
        options, budget = self.options, Budget(run, nfe=self.options.nfe)
        step = self._step(budget)
        pool = Pool(run, options.survivors, distinct=options.distinct)
        self._draw_seeds(run, sample, budget, pool)
        budget.end_round()
        rounds = options.rounds if options.rounds is not None else None if options.nfe is not None else ROUNDS
        done = 0
        while rounds is None or done < rounds:
            start, x0, lineage = self._children(run, budget, pool, step)
            if not len(start):
                break
            state = run.renoised(x0, start, step)
            state.ancestors = lineage
            pool.add(run.sample(state, hooks=False), "refined", budget.spent(start.job.tolist()))
            done += 1
            run.hooks.hook.after_round(run=run, done=done, total=rounds)
        state = pool.state
        events = state.events
        keep = options.keep if options.keep is not None else 1 if run.choose == "best" else options.survivors
        state = Pool(run, keep).pruned(state, keep)
        state.events = events
        return state

    def _step(self, budget: Budget) -> int:
        """Return the steps that a child skips."""
        again = max(1, round(self.options.depth * budget.steps))
        return budget.steps - again

    def _draw_seeds(self, run: Run, sample: Callable[..., State], budget: Budget, pool: Pool) -> None:
        jobs = run.start.job.unique().tolist()
        cost = budget.sample_cost
        if self.options.nfe is not None and not budget.affords(jobs[0], cost):
            raise SteerError(
                f"refine.nfe={self.options.nfe} is less than one sample takes ({cost}); raise it, or lower --steps"
            )
        if self.nested(run):  # the inner methods decide the size of the population
            pool.add(state := sample(run.start), "seed", budget.spent(state.job.tolist()))
            return
        count = self.options.seeds or DEFAULT_N
        if self.options.nfe is not None:
            paid = int(self.options.nfe * (self.options.share if self.options.seeds is None else 1)) // cost
            count = max(1, paid if self.options.seeds is None else min(count, paid))
        for first in range(0, count, run.particles):
            size = min(run.particles, count - first)
            start = Start.of(jobs, range(size)) if first == 0 else run.fresh_start(jobs, size)
            state = sample(start)
            pool.add(state, "seed", budget.spent(state.job.tolist()))

    def _children(self, run: Run, budget: Budget, pool: Pool, step: int) -> tuple[Start, Tensor, Tensor]:
        """Return the rows of a round with their parents' latents and lineages; no rows if nothing is left to do."""
        parents = pool.state
        target = self.options.target
        jobs = [job for job in parents.job.unique().tolist() if target is None or pool.best(job) < target]
        cost = budget.sample_cost * (budget.steps - step) // budget.steps
        size = self.options.survivors * self.options.copies
        left = budget.left(jobs[0]) if jobs else 0
        if left is not None:  # all prompts that continue have spent equally
            size = min(size, int(left // cost))
        if not jobs or size < 1:  # inner methods may have overdrawn the budget
            return Start.of([], []), parents.x[:0], parents.ancestors[:0]
        rewards = parents.rewards()
        rows = []
        for job in jobs:
            own = best_first(parents.rows_of(job), rewards)
            rows.append(own[torch.arange(size) % len(own)])  # the best parents get the last, incomplete round
        chosen = torch.cat(rows)
        return run.fresh_start(jobs, size), parents.x[chosen.to(parents.x.device)], parents.ancestors[chosen]

    def replay_options(self, job: int) -> Mapping[str, Any]:
        """Return nothing: the budget counts evaluations, which are the same on every machine."""
        return {}
