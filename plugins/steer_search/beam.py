"""A beam search through the steps: continue only the best particles, each of them in several copies."""

import itertools
import math

import torch
from torch import Tensor

from steer import Method, State, SteerError, hookimpl
from steer.plugin import Run, Timetable, check_diverges, rewards_ahead, suggest_noise
from steer_search.options import BeamOptions
from steer_search.pool import best_first


class Beam(Method):
    """Let the best particles go on in copies, which the noise of the next transition tells apart.

    Like :class:`steer_search.prune.Prune` after a cheap look at many, and like FK steering with a weight that only the
    best particles have: no draw of a distribution, so there is no log Z.
    """

    name = "beam"
    Options = BeamOptions
    options: BeamOptions
    size_option = "particles"
    least_particles = 2

    @hookimpl
    def configure(self, run: Run) -> None:
        """Require a reward, request particles and, if the scheduler draws no noise by default, a stochastic sampler."""
        self.require_reward(run, "choose particles by")
        if self.options.lookahead:
            run.backbone.check_predicts(f"beam.lookahead={self.options.lookahead}")
        self.ask_for_particles(run)
        suggest_noise(run, self.name)
        run.finalists = self._width(run.particles)

    @hookimpl
    def begin(self, state: State) -> None:
        """Check that copies of a particle can diverge, and compute the steps to select at.

        Raises:
            SteerError: if they cannot.
        """
        check_diverges(state, self.name)
        if state.steps < 2:
            raise SteerError(
                "beam selects between steps, and this run has one step; take more, or best-of-n, which needs no more"
            )
        last = state.steps - 2  # after the last step there is no noise to tell copies apart
        self._selections = Timetable(min(round(share * state.steps), last) for share in self.options.at)
        self._widths = [self._width(int((state.job == job).sum())) for job in range(len(state.jobs))]

    @hookimpl
    def after_predict(self, state: State) -> None:
        """At scheduled steps, replace each prompt's particles by copies of the best."""
        if not self._selections.due(state):
            return
        rewards = rewards_ahead(state, self.options.lookahead)
        rows, ancestors = [], []
        for job in state.job.unique().tolist():
            own = best_first(state.rows_of(job), rewards)
            width = min(self._widths[job], len(own))
            rows.append(own[:width])
            ancestors.append(descendants(own, width, self.options.copies))
        filled = torch.cat(rows)
        order = filled.argsort()
        state.biased = True
        state.copy_from(torch.cat(ancestors)[order], torch.zeros(len(filled), dtype=torch.float64), filled[order])

    def _width(self, count: int) -> int:
        return max(1, math.ceil(self.options.width * count - 1e-9))


def descendants(rows: Tensor, width: int, copies: int) -> Tensor:
    """Return the ancestor ``[width]`` of each of the rows that go on: the best ones keep their own place.

    Args:
        rows: int64 ``[M]``, a prompt's particles, best first.
        width: how many go on, 1..M.
        copies: of each survivor; the last ones may have one less.
    """
    survivors = rows[: math.ceil(width / copies)].tolist()
    filling = itertools.islice(itertools.cycle(survivors), width)
    return torch.tensor(list(filling), dtype=torch.int64)
