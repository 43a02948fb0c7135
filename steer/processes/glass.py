"""Stochastic transitions from ODE steps (GLASS flows, arXiv 2509.25170): noise without a stochastic sampler's steps.

A transition from level (α, σ) to (α', σ') draws x' = γ·x + a·Y, where Y = z + τ·ε is a second, independent look at the
data z. Both looks together are one of precision α²/σ² + 1/τ², and its mean S is all that the denoiser needs to know. So
an ODE over the schedule's own timesteps between the two levels brings Y from its first τ to s/a, s being the kernel's
sd, with the same network and without training.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from steer.errors import SteerError
from steer.processes.gaussian import Gaussian, kernel_sd
from steer.processes.noise import Streams
from steer.processes.rows import taking


class Glass(Gaussian):
    """The schedule cut into stochastic transitions, each an inner ODE over its share of the evaluations.

    ``x`` is α·S at the level of the coming evaluation throughout, so that model input, estimate and timestep are the
    scheduler's own. As many transitions as evaluations are the kernel η itself; in the limit of many evaluations the
    marginals are those of the exact chain for every number of transitions.

    Args:
        scheduler: a fresh one-step scheduler whose timesteps are set; the process owns it.
        transitions: 1 up to the number of evaluations.
        eta: stochasticity of a transition in (0, 1]; 1 if it is ``None``.

    Raises:
        SteerError: for a scheduler with a history or of higher order, or a number that does not fit.
    """

    def __init__(self, scheduler: Any, *, transitions: int, eta: float | None = None) -> None:
        if not Gaussian(scheduler).one_step:
            raise SteerError(
                f"transitions={transitions} is not possible with {type(scheduler).__name__}, whose steps are not in "
                "closed form; use --scheduler ddim, euler, flow-euler or edm-euler"
            )
        if eta == 0:
            raise SteerError(f"transitions={transitions} draw noise, and eta=0 allows none; leave eta out")
        super().__init__(scheduler, eta=1.0 if eta is None else eta)
        self._transitions = transitions
        self._share()
        self._begun: tuple[tuple[float, float], Tensor, Tensor] | None = None  # within a transition: its level, x, Y

    def _share(self) -> None:
        """Share the evaluations that are left among the transitions.

        Raises:
            SteerError: if they are too few.
        """
        left, transitions = self.length - self.index, self._transitions
        if transitions > left:
            raise SteerError(
                f"transitions={transitions} are more than the {left} evaluations that they share; lower transitions or "
                "raise the steps"
            )
        self._ends = [self.index + round(number * left / transitions) for number in range(1, transitions + 1)]

    def begin_at(self, timestep: Any) -> None:
        super().begin_at(timestep)
        self._share()

    @property
    def whole(self) -> bool:
        return self._begun is None

    def transition(self, x: Tensor, x0: Tensor) -> tuple[Tensor, float]:
        """As :meth:`Gaussian.transition`, for a transition of one evaluation."""
        if self._begun is not None or self._end - self.index > 1:
            raise SteerError("a transition of several evaluations has no mean in closed form")
        return super().transition(x, x0)

    def skip_to(self, index: int) -> None:
        self._begun = None
        super().skip_to(index)

    def select(self, rows: Tensor, count: int) -> None:
        super().select(rows, count)
        if self._begun is not None:
            (level, x, look), take = self._begun, taking(rows)
            self._begun = level, take(x), take(look)

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        if self._begun is None and self._end - self.index == 1:
            return super().step(x, prediction, streams)
        z = self.estimate(x, prediction)
        if self._begun is None:
            here = self._level(self.index)
            look = z + self._tau(here, self.index + 1) * streams.normal(x.shape[1:], x.device)
        else:
            here, x, look = self._begun
            last = self.index + 1 == self._end
            after = self._last_tau(here) if last else self._tau(here, self.index + 1)
            look = z + (after / self._tau(here, self.index)) * (look - z)
        there = None if self.index + 1 < self._end else self._next_level(self.index)
        self._advance_scheduler()
        self.index += 1
        if there is not None:
            self._begun = None
            keep, add = _mixture(here, there, self.eta or 0.0)
            return keep * x + add * look
        self._begun = here, x, look
        # both looks as one, at the level of the coming evaluation
        alpha, sigma = self._level(self.index)
        mean = (here[0] / here[1] ** 2 * x + look / self._tau(here, self.index) ** 2) / (alpha / sigma) ** 2
        return alpha * mean

    @property
    def _end(self) -> int:
        """The index at which the transition that :attr:`index` is in is over."""
        return next(end for end in self._ends if end > self.index)

    def _tau(self, here: tuple[float, float], index: int) -> float:
        """Return the sd of the second look with which both have the precision of the level at ``index``."""
        alpha, sigma = self._level(index)
        return 1 / math.sqrt((alpha / sigma) ** 2 - (here[0] / here[1]) ** 2)

    def _last_tau(self, here: tuple[float, float]) -> float:
        """Return the sd with which the second look makes the transition's noise."""
        there = self._next_level(self._end - 1)
        _, add = _mixture(here, there, self.eta or 0.0)
        return kernel_sd(here, there, self.eta or 0.0) / add


def _mixture(here: tuple[float, float], there: tuple[float, float], eta: float) -> tuple[float, float]:
    """Return γ and a of x' = γ·x + a·Y."""
    (alpha, sigma), (alpha_next, sigma_next) = here, there
    keep = math.sqrt(max(0.0, sigma_next**2 - kernel_sd(here, there, eta) ** 2)) / sigma
    return keep, alpha_next - keep * alpha
