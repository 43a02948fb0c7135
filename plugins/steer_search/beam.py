"""A beam search through the steps: continue only the best particles, each of them in several copies."""

import itertools
import math
import warnings

import torch
from torch import Tensor

from steer import Method, State, SteerError, hookimpl
from steer.plugin import Run, Timetable, check_diverges, rewards_ahead, steps_at, suggest_noise
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
    copies = True

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
        if state.steps - state.step < 2:
            raise SteerError("beam selects between steps, and this run has one; take more steps, or best-of-n")
        last = state.steps - 2
        self._selections = Timetable(min(step, last) for step in steps_at(self.options.at, state))
        self._widths = [self._width(len(state.rows_of(job))) for job in range(len(state.jobs))]
        self._selected = False

    @hookimpl
    def after_predict(self, state: State) -> None:
        """At scheduled steps, replace each prompt's particles by copies of the best."""
        # after the last step there is no noise to tell copies apart
        if not self._selections.due(state) or state.step == state.steps - 1:
            return
        self._selected = True
        rewards = rewards_ahead(state, self.options.lookahead)
        rows, ancestors = [], []
        for job in state.job.unique().tolist():
            own = best_first(state.rows_of(job), rewards)
            width = min(self._widths[job], len(own))
            rows.append(own[:width])
            ancestors.append(descendants(own, width, self.options.copies))
        filled, sources = torch.cat(rows), torch.cat(ancestors)
        order = filled.argsort()
        filled, sources = filled[order], sources[order]
        if len(filled) == len(state) and torch.equal(filled, sources):
            return
        state.biased = True
        state.copy_from(sources, state.log_weight[sources], filled)

    @hookimpl
    def finish(self, state: State) -> None:
        """Warn if nothing was selected."""
        if not self._selected:
            warnings.warn(
                "beam selected nothing: none of its steps (beam.at) begins a transition before the last one; take more "
                "steps or transitions",
                stacklevel=2,
            )

    def _width(self, count: int) -> int:
        """Return how many of ``count`` particles go on: no fewer than all copies of one."""
        return min(count, max(self.options.copies, math.ceil(self.options.width * count - 1e-9)))


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
