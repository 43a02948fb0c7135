"""Stochastic transitions from ODE steps (GLASS flows, arXiv 2509.25170): noise without a stochastic sampler's steps.

A transition from level (α, σ) to (α', σ') draws x' = γ·x + a·Y, where Y = z + τ·ε is a second, independent look at the
data z. Both looks together are one of precision α²/σ² + 1/τ², and its mean S is all that the denoiser needs to know. So
an ODE over the schedule's own timesteps between the two levels brings Y from its first τ to s/a, s being the kernel's
sd, with the same network and without training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from steer.errors import SteerError
from steer.processes.gaussian import Gaussian, kernel_sd
from steer.processes.noise import Streams
from steer.processes.rows import taking

Level = tuple[float, float]
"""(α, σ) of x = α·z + σ·noise."""


class Transition:
    """A stochastic transition under way, as an ODE.

    ``x`` is α·S at the level of the coming evaluation throughout, so that model input, estimate and timestep are those
    of an ordinary x there. It takes a first :meth:`look`, more looks at increasing precision, and the :meth:`end`.

    Args:
        x: ``[N, …]`` at the beginning.
        here: its level.
        there: the level of the end.
        eta: stochasticity in (0, 1].
    """

    def __init__(self, x: Tensor, here: Level, there: Level, eta: float) -> None:
        self._x, self._precision = x, (here[0] / here[1]) ** 2
        self._weight = here[0] / here[1] ** 2
        sd = kernel_sd(here, there, eta)
        self._keep = math.sqrt(max(0.0, there[1] ** 2 - sd**2)) / here[1]
        self._add = there[0] - self._keep * here[0]
        self._last = sd / self._add
        self._look, self._sd = x, math.inf

    def look(self, z: Tensor, level: Level, noise: Tensor | None = None) -> Tensor:
        """Return x at a level on the way.

        Args:
            z: the data as estimated at the x before.
            level: of more precision than all before, and less than the end's.
            noise: standard normal, like x; for the first look only.
        """
        alpha, sigma = level
        sd = 1 / math.sqrt((alpha / sigma) ** 2 - self._precision)
        self._look = z + (sd * noise if noise is not None else (sd / self._sd) * (self._look - z))
        self._sd = sd
        # both looks as one
        mean = (self._weight * self._x + self._look / sd**2) / (alpha / sigma) ** 2
        return alpha * mean

    def end(self, z: Tensor) -> Tensor:
        """Return x after the transition, from the data as estimated at the last look."""
        return self._keep * self._x + self._add * (z + (self._last / self._sd) * (self._look - z))

    def select(self, take: Callable[[Tensor], Tensor]) -> None:
        """Reindex the rows."""
        self._x, self._look = take(self._x), take(self._look)


def transition_ends(first: int, last: int, transitions: int) -> list[int]:
    """Share the evaluations from ``first`` up to ``last`` among transitions; return the index after each.

    Raises:
        SteerError: if they are too few.
    """
    if transitions > last - first:
        raise SteerError(
            f"transitions={transitions} are more than the {last - first} evaluations that they share; lower "
            "transitions or raise the steps"
        )
    return [first + round(number * (last - first) / transitions) for number in range(1, transitions + 1)]


class Glass(Gaussian):
    """The schedule cut into stochastic transitions, each an inner ODE over its share of the evaluations.

    As many transitions as evaluations are the kernel η itself; in the limit of many evaluations the
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
        self.transitions = transitions
        self._share()
        self._under_way: Transition | None = None

    def _share(self) -> None:
        self._ends = transition_ends(self.index, self.length, self.transitions)

    def begin_at(self, timestep: Any) -> None:
        super().begin_at(timestep)
        self._share()

    @property
    def whole(self) -> bool:
        return self._under_way is None

    def transition(self, x: Tensor, x0: Tensor) -> tuple[Tensor, float]:
        """As :meth:`Gaussian.transition`, for a transition of one evaluation."""
        if self._under_way is not None or self._end - self.index > 1:
            raise SteerError("a transition of several evaluations has no mean in closed form")
        return super().transition(x, x0)

    def skip_to(self, index: int) -> None:
        self._under_way = None
        super().skip_to(index)

    def select(self, rows: Tensor, count: int) -> None:
        super().select(rows, count)
        if self._under_way is not None:
            self._under_way.select(taking(rows))

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        if self._under_way is None and self._end - self.index == 1:
            return super().step(x, prediction, streams)
        z, end = self.estimate(x, prediction), self._end
        if self._under_way is None:
            there = self._next_level(end - 1)
            self._under_way = Transition(x, self._level(self.index), there, self.eta or 0.0)
            out = self._under_way.look(z, self._level(self.index + 1), streams.normal(x.shape[1:], x.device))
        elif self.index + 1 < end:
            out = self._under_way.look(z, self._level(self.index + 1))
        else:
            out, self._under_way = self._under_way.end(z), None
        self._advance_scheduler()
        self.index += 1
        return out

    @property
    def _end(self) -> int:
        """The index at which the transition that :attr:`index` is in is over."""
        return next(end for end in self._ends if end > self.index)
