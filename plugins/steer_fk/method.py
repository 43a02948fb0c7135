"""FK steering as a method: weigh by potentials, resample, continue (arXiv 2501.06848, Algorithm 1)."""

import math
import warnings

import numpy as np
import torch

from steer import Method, State, SteerError, hookimpl
from steer.plugin import Run, Timetable, check_diverges, keyed, rewards_ahead, suggest_noise
from steer_fk.options import TRANSITIONS, FKOptions
from steer_fk.potentials import Lineage, first_memory, last_log_potential, log_potential, pooled, tempered_strength
from steer_fk.resampling import (
    SCHEMES,
    annealing_exponent,
    effective_sample_size,
    keep_survivors_in_place,
    log_mean_exp,
    normalize,
    without_copies,
)

PRODUCT, MEMORY = "fk.log_product", "fk.memory"


class FK(Method):
    """Feynman-Kac steering.

    Every prompt has its own population. Log-weights stay exact: they accumulate through steps without resampling, and
    after resampling each particle has its prompt's log-mean-exp. So log Z is known at any time.
    """

    name = "fk"
    Options = FKOptions
    options: FKOptions
    size_option = "particles"
    least_particles = 2
    copies = True

    @hookimpl
    def configure(self, run: Run) -> None:
        """Request particles and, if the scheduler draws no noise by default, a stochastic sampler."""
        self.require_reward(run, "choose particles by")
        self.ask_for_particles(run)
        if self.options.lookahead:
            run.backbone.check_predicts(f"fk.lookahead={self.options.lookahead}")
        if self.options.preset == "glass":
            run.suggest("transitions", TRANSITIONS, by="fk")
        suggest_noise(run, "fk")
        # a funnel narrows within a transition too, for it needs no copies, but not within a step of a second-order one
        self._narrows_within = self.options.keep < 1 and (run.get("transitions") or 1) > 1
        if self.options.keep < 1:
            narrowings = len(self.options.schedule(int(run.get("steps"))))
            narrowings += min(narrowings, (run.get("transitions") or 1) - 1)  # where transitions begin
            run.finalists = run.particles
            for _ in range(narrowings):
                run.finalists = self._left(run.finalists)

    @hookimpl
    def begin(self, state: State) -> None:
        """Check that copies of a particle can diverge, and start every lineage."""
        check_diverges(state, "fk")
        late = [step for step in self.options.at or () if not 0 <= step < state.steps]
        if late:
            raise SteerError(f"fk.at={late[0]} is outside the run's steps; expected 0..{state.steps - 1}")
        begun = 0 if self.options.at is not None else state.step  # a picture to begin with leaves the last steps
        self._steps = frozenset(begun + step for step in self.options.schedule(state.steps - begun))
        self._resamplings = Timetable(self._steps)
        start = first_memory(self.options.potential, self.options.reward_min)
        state.extra[PRODUCT] = torch.zeros(len(state), dtype=torch.float64)
        state.extra[MEMORY] = torch.full((len(state),), start, dtype=torch.float64)

    @hookimpl
    def after_predict(self, state: State) -> None:
        """At scheduled steps, multiply the potential into the weights and resample."""
        narrows = self._narrows_within and state.step in self._steps
        if not (self._resamplings.due(state) or narrows):
            return
        past, rewards = Lineage(state.extra[PRODUCT], state.extra[MEMORY]), self._rewards(state)
        strength = self.options.lam if self.options.potential != "adaptive" else self._tempered(state, rewards, past)
        log_g, past = log_potential(self.options.potential, strength, rewards, past)
        state.extra[PRODUCT], state.extra[MEMORY] = past.log_product, past.memory
        state.log_weight = state.log_weight + log_g
        self._resample(state)

    @hookimpl
    def finish(self, state: State) -> None:
        """Multiply the last potential into the weights, which then target p(x0)·exp(λ·r(x0))."""
        past, rewards = Lineage(state.extra[PRODUCT], state.extra[MEMORY]), state.rewards()
        least = self.options.reward_min
        unseen = self.options.potential == "max" and self._resamplings and bool((past.memory <= least).all())
        if unseen and bool((rewards < least).any()):
            warnings.warn(
                # the same text for every pack, so that it is shown once
                f"fk's potential max saw no reward above fk.reward_min={least:g}, so it did not steer before the end; "
                "set it below the rewards, or use fk.potential=diff",
                stacklevel=2,
            )
        state.log_weight = state.log_weight + last_log_potential(self.options.lam, rewards, past)
        diagnostics = [self._diagnose(state, state.rows_of(job)) for job in range(len(state.jobs))]
        self._note(state, diagnostics, [False] * len(diagnostics))

    def _rewards(self, state: State) -> torch.Tensor:
        """Return the reward of each particle's x0, pooled over draws if x0 is random; or the reward after a look-ahead
        (look-ahead modulation, arXiv 2510.05825)."""
        if self.options.lookahead or not state.draws_x0:
            return rewards_ahead(state, self.options.lookahead)
        scale = self.options.lam if self.options.pool == "tilt" else 1.0
        return pooled(state.rewards(draws=self.options.draws), scale)

    def _tempered(self, state: State, rewards: torch.Tensor, past: Lineage) -> torch.Tensor:
        """Return each particle's λ at this step, the same for all of a prompt."""
        strength = torch.zeros_like(rewards)
        for job in state.job.unique().tolist():
            rows = state.rows_of(job)
            own = Lineage(past.log_product[rows], past.memory[rows])
            strength[rows] = tempered_strength(
                state.log_weight[rows].numpy(), rewards[rows].numpy(), own, self.options.ess_target
            )
        return strength

    def _resample(self, state: State) -> None:
        """Resample each prompt's population whose ESS is at most the threshold, or that is to shrink."""
        remaining, ancestors, log_weights = [], [], []
        diagnostics, resampled = [], []
        for index, job in enumerate(state.jobs):
            rows = state.rows_of(index)
            diagnosis = self._diagnose(state, rows)
            diagnostics.append(diagnosis)
            own = state.log_weight[rows].numpy()
            count = self._left(len(rows))
            # up to rounding, an ESS of n means equal weights, which never need resampling
            uneven = diagnosis[0] <= self.options.ess_threshold * len(rows) and diagnosis[0] < len(rows) * (1 - 1e-9)
            resampled.append(uneven or count < len(rows))
            if resampled[-1]:
                generator = keyed(job.seed, job.prompt.id, "resample", step=state.step, draw=state.draw)
                gamma = annealing_exponent(own, self.options.min_entropy) if len(rows) > 1 else 1.0
                weights = normalize(gamma * own)
                if state.whole:
                    drawn = SCHEMES[self.options.scheme](weights, count, generator)
                    places, chosen = keep_survivors_in_place(drawn, len(rows))
                    # after resampling by w^γ, a particle keeps the rest of its weight, so log Z stays exact
                    kept = diagnosis[1] if gamma == 1 else (1 - gamma) * own[chosen] + log_mean_exp(gamma * own)
                    own = np.broadcast_to(kept, count)
                else:  # copies would stay equal until the next transition
                    places, probability = without_copies(weights, count, generator)
                    chosen = places
                    own = own[chosen] - np.log(probability) + math.log(count / len(rows))
            else:
                places = chosen = np.arange(len(rows))
            remaining.append(rows[torch.from_numpy(places)])
            ancestors.append(rows[torch.from_numpy(chosen)])
            log_weights.append(torch.as_tensor(own.copy(), dtype=torch.float64))
        if any(resampled):
            together = torch.cat(remaining)
            order = together.argsort()
            state.copy_from(torch.cat(ancestors)[order], torch.cat(log_weights)[order], together[order])
        self._note(state, diagnostics, resampled)

    def _left(self, count: int) -> int:
        return math.ceil(self.options.keep * count - 1e-9)

    @staticmethod
    def _diagnose(state: State, rows: torch.Tensor) -> tuple[float, float]:
        """Return ESS and log Z of a prompt's rows; zeros if an outer search is done with it."""
        weights = state.log_weight[rows].numpy()
        if not len(weights):
            return 0.0, 0.0
        if not np.isfinite(weights).all():
            raise SteerError(
                f"fk: weights of prompt {state.jobs[int(state.job[rows[0]])].prompt[:60]!r} left the range of "
                "float64; lower fk.lambda"
            )
        return effective_sample_size(weights), log_mean_exp(weights)

    @staticmethod
    def _note(state: State, diagnostics: list[tuple[float, float]], resampled: list[bool]) -> None:
        unique = [len(set(state.ancestors[state.rows_of(job)].tolist())) for job in range(len(state.jobs))]
        state.record(
            "fk",
            ess=[ess for ess, _ in diagnostics],
            log_z=[log_z for _, log_z in diagnostics],
            resampled=resampled,
            unique_ancestors=unique,
        )
