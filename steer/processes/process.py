"""``Process``: the interface of noise processes, to subclass for a new one."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from steer.processes.noise import Streams


class Process(Protocol):
    """The position of one population on the way from noise to data, and its next transition. Each State owns one."""

    @property
    def index(self) -> int:
        """Evaluations done so far: the steps taken, unless they are of a higher order."""

    @property
    def length(self) -> int:
        """Total number of evaluations, as far as known."""

    @property
    def done(self) -> bool:
        """Whether ``x`` is final."""

    @property
    def whole(self) -> bool:
        """Whether a step begins at ``x``; ``False`` within a step or transition of several evaluations."""

    @property
    def timestep(self) -> Tensor:
        """The denoiser's time input, 0-dimensional, on the CPU."""

    @property
    def level(self) -> tuple[float, float]:
        """(alpha, sigma) of the current ``x = alpha·x0 + sigma·noise``; for tokens, the shares shown and masked."""

    @property
    def stochastic(self) -> bool:
        """Whether transitions draw noise, so that copies of a particle diverge."""

    def prior(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise ``[N, …]`` into the first ``x``."""

    def model_input(self, x: Tensor) -> Tensor:
        """Scale ``x`` for the denoiser."""

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Return the estimate of x0 that belongs to ``x`` and the denoiser's output."""

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        """Take one transition, with noise drawn row by row from ``streams``, and advance :attr:`index`."""

    def select(self, rows: Tensor, count: int) -> None:
        """Reindex all data per particle: row i becomes the old ``rows[i]`` of ``count``."""


@runtime_checkable
class RandomX0(Protocol):
    """A process whose denoiser gives a distribution of x0, such as one of tokens.

    :meth:`Process.estimate` returns the distribution's mode.
    """

    def draw_x0(self, x: Tensor, prediction: Tensor, uniform: Tensor) -> Tensor:
        """Draw m values of x0 per particle.

        Args:
            x: ``[N, …]``.
            prediction: the denoiser's output for it.
            uniform: ``[N, m, …]`` in [0, 1), fp64, one number for each element of each draw.

        Returns:
            ``[N, m, …]``.
        """
