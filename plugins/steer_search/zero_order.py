"""Zero-order search: random steps of the initial noise around the best one (arXiv 2501.09732, section 3.2).

For rewards without a gradient. A neighbor is sqrt(1 − r²)·best + r·new, which is again standard normal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steer import State, SteerError, hookimpl
from steer.plugin import Budget, Run, Start, keyed, within
from steer_search.base import Search
from steer_search.options import ZeroOrderOptions
from steer_search.pool import Pool

WIDER, NARROWER, NARROWEST = 1.25, 0.8, 0.02


@dataclass
class Pivot:
    """A prompt's best noise so far, the stream of its transitions, and the radius of the next step."""

    reward: float
    noise: Tensor
    stream: int
    radius: float


class ZeroOrder(Search):
    """A round of seeds, then rounds of neighbors of the best noise."""

    name = "zero-order"
    Options = ZeroOrderOptions
    options: ZeroOrderOptions
    particles = 8

    @hookimpl(trylast=True)
    def configure(self, run: Run) -> None:
        """Require samples that start from an initial noise."""
        if not run.backbone.continuous:
            raise SteerError(
                f"zero-order changes initial noises, and a {run.backbone.modality} has none, because its tokens are "
                "drawn step by step; use best-of-n or fk"
            )
        super().configure(run)

    @hookimpl
    def search(self, run: Run, sample: Callable[..., State]) -> State:
        """Draw the seeds, then neighbors round by round."""
        self.check_seeds_are_ours(run)
        budget, pool = self.budget(run), Pool(run, self.options.keep)
        pivots: dict[int, Pivot] = {}
        self.drawn = {}
        start: Start | None = run.start
        self._check_budget(run, budget, run.start)
        while start is not None:
            before = run.spent.clone()
            start = start.with_noise(run.noise(start))
            state = sample(start)
            state.biased = True  # selected noises are not draws from the prior
            origin = "neighbor" if pivots else "seed"
            ancestors, jobs = state.ancestors.tolist(), state.job.tolist()
            rewards = pool.add(state, origin, budget.spent(jobs))
            self._move(pivots, start, jobs, ancestors, rewards)
            budget.end_round()
            run.hooks.hook.after_round(run=run, done=max(self.drawn.values()), total=self.options.rounds + 1)
            rounds = (run.spent - before).tolist()
            going = [job for job in sorted(set(jobs)) if self._goes_on(job, pivots[job], budget, rounds[job])]
            start = self._neighbors(run, going, pivots) if going and budget.in_time() else None
        return pool.state

    def _goes_on(self, job: int, pivot: Pivot, budget: Budget, cost: int) -> bool:
        if self.drawn.get(job, 0) > self.options.rounds or not budget.affords(job, cost):
            return False
        return self.options.target is None or pivot.reward < self.options.target

    def _move(
        self, pivots: dict[int, Pivot], start: Start, jobs: list[int], ancestors: list[int], rewards: Tensor
    ) -> None:
        """Move each prompt's pivot to the best row of its round if that row is better."""
        assert start.noise is not None
        row_of = {key: row for row, key in enumerate(zip(start.job.tolist(), start.slot.tolist(), strict=True))}
        for job in sorted(set(jobs)):
            self.drawn[job] = self.drawn.get(job, 0) + 1
            rows = [row for row, j in enumerate(jobs) if j == job]
            best = max(rows, key=lambda row: float(rewards[row]))
            origin = row_of[job, ancestors[best]]
            known = pivots.get(job)
            if known is None or float(rewards[best]) > known.reward:
                radius = self.options.radius if known is None else min(1.0, known.radius * WIDER)
                stream = int(start.streams[origin])
                pivots[job] = Pivot(float(rewards[best]), start.noise[origin], stream, radius)
            elif self.drawn[job] > 1:
                known.radius = max(NARROWEST, known.radius * NARROWER)
            if not self.options.adapt:
                pivots[job].radius = self.options.radius

    def _neighbors(self, run: Run, jobs: list[int], pivots: dict[int, Pivot]) -> Start:
        """Return fresh slots around each pivot; their transitions draw from the pivot's stream, unless copies of one
        particle in several slots must come apart."""
        start = run.fresh_start(jobs, run.particles)
        apart = any(method.copies for method in within(run, self))
        noises, streams = [], []
        for job, slot in zip(start.job.tolist(), start.slot.tolist(), strict=True):
            pivot, address = pivots[job], run.jobs[job]
            generator = keyed(address.seed, address.prompt.id, self.name, slot=slot)
            new = torch.from_numpy(generator.standard_normal(pivot.noise.shape)).to(pivot.noise)
            noises.append((1 - pivot.radius**2) ** 0.5 * pivot.noise + pivot.radius * new)
            streams.append(pivot.stream)
        return replace(start, noise=torch.stack(noises), stream=None if apart else torch.tensor(streams))

    def _check_budget(self, run: Run, budget: Budget, start: Start) -> None:
        jobs = start.job.unique()
        cost = budget.sample_cost * (len(start) // len(jobs))
        if not budget.affords(int(jobs[0]), cost):
            raise SteerError(
                f"zero-order.nfe={self.options.nfe} is less than one round takes ({cost}); raise it, or lower "
                "--particles or --steps"
            )

    def counts(self, job: int) -> Mapping[str, Any]:
        """Return the number of rounds of neighbors."""
        return {"rounds": self.drawn[job] - 1}
