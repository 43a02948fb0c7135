"""Pruning: begin with many particles, score them early, and finish only the best (successive halving over fidelity).

The idea is from Jamieson & Talwalkar 2016 (arXiv 1502.07943): a cheap look at many instead of an expensive look at few.
Here the cheap look is an intermediate estimate of x0, or a short look-ahead.
"""

import math

import torch

from steer import Method, State, hookimpl
from steer.plugin import Run, Timetable, rewards_ahead, steps_at
from steer_search.options import PruneOptions
from steer_search.pool import best_first


class Prune(Method):
    """Drop the particles with the lowest rewards during sampling.

    Nothing is copied, so the remaining particles are as different as independent samples. Pruned particles cost no
    further work: batches shrink, and packs hold more prompts so that batches are full at the end.
    """

    name = "prune"
    Options = PruneOptions
    options: PruneOptions
    size_option = "particles"
    least_particles = 2
    independent = True

    @hookimpl
    def configure(self, run: Run) -> None:
        """Require a reward and request particles."""
        self.require_reward(run, "choose particles by")
        if self.options.lookahead:
            run.backbone.check_predicts(f"prune.lookahead={self.options.lookahead}")
        self.ask_for_particles(run)
        run.finalists = self._left(run.particles, len(self.options.at))

    @hookimpl
    def begin(self, state: State) -> None:
        """Compute the steps to prune at."""
        self._prunings = Timetable(steps_at(self.options.at, state))

    @hookimpl
    def after_predict(self, state: State) -> None:
        """At scheduled steps, keep each prompt's best particles."""
        if not self._prunings.due(state):
            return
        rewards = rewards_ahead(state, self.options.lookahead)
        kept = []
        for job in state.job.unique().tolist():
            rows = state.rows_of(job)
            kept.append(best_first(rows, rewards)[: self._left(len(rows), 1)].sort().values)
        state.keep(torch.cat(kept))

    def _left(self, count: int, prunings: int) -> int:
        for _ in range(prunings):
            count = max(1, math.ceil(self.options.keep * count - 1e-9))
        return count
