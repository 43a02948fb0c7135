"""What the loop asks of a noise process; it computes nothing itself."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from steer.processes.noise import Streams


class Process(Protocol):
    """One population's way through the noise levels. Each State owns one; it counts its own steps."""

    @property
    def index(self) -> int:
        """Evaluations done so far: the steps taken, unless they are of a higher order."""
        ...

    @property
    def length(self) -> int:
        """Evaluations in all, as far as known."""
        ...

    @property
    def done(self) -> bool:
        """Whether ``x`` is final."""
        ...

    @property
    def whole(self) -> bool:
        """Whether ``x`` stands at the beginning of a step, not at the trial point within one of a higher order."""
        ...

    @property
    def timestep(self) -> Tensor:
        """The time that the denoiser is asked at, 0-dimensional."""
        ...

    @property
    def level(self) -> tuple[float, float]:
        """(alpha, sigma) of the current ``x = alpha·x0 + sigma·noise``; of tokens, the shares shown and masked."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether transitions draw noise, so that copies of a particle part."""
        ...

    def prior(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise ``[N, …]`` into the first ``x``."""
        ...

    def model_input(self, x: Tensor) -> Tensor:
        """Scale ``x`` as the denoiser wants it."""
        ...

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Return the estimate of x0 that belongs to ``x`` and the denoiser's output."""
        ...

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        """Take one transition, drawing its noise row by row from ``streams``; counts up."""
        ...

    def select(self, rows: Tensor, count: int) -> None:
        """Reindex whatever is kept per particle: row i becomes the old ``rows[i]`` of ``count``."""
        ...


@runtime_checkable
class RandomX0(Protocol):
    """What a process has besides, if the denoiser gives a distribution of x0 and not one value: that of tokens.

    :meth:`Process.estimate` gives its mode then.
    """

    def draw_x0(self, x: Tensor, prediction: Tensor, uniform: Tensor) -> Tensor:
        """Draw m values of x0 a particle.

        Args:
            x: ``[N, …]``.
            prediction: the denoiser's output for it.
            uniform: ``[N, m, …]`` in [0, 1), fp64, one number for each element of each draw.

        Returns:
            ``[N, m, …]``.
        """
        ...
