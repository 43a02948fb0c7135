"""Look-ahead: a sharper estimate of a particle's end, from a few coarse steps without noise."""

from torch import Tensor

from steer.errors import SteerError
from steer.processes.gaussian import Gaussian, kernel_mean
from steer.sampling.batch import Batch
from steer.sampling.state import State


def rollout(state: Batch, steps: int) -> Tensor:
    """Return x0 ``[N, …]`` at the end of the probability flow from ``state.x``, in ``steps`` more evaluations.

    Between prediction and transition, the first estimate of x0 is known already. Every further evaluation is spent at
    one of the coming timesteps, evenly spaced, along the kernel with sd 0 (DDIM's eq. 12 with η=0, arXiv 2010.02502).
    With ``steps=0`` the result is ``state.x0``; with all steps that are left, it is the deterministic sampler's
    sample. The population does not change; the evaluations are booked.

    Raises:
        SteerError: for a process that has no such flow (tokens, two coupled flows).
    """
    process = state.process
    if not isinstance(process, Gaussian):
        raise SteerError(
            f"a look-ahead needs a Gaussian process, got {type(process).__name__}; leave the look-ahead out"
        )
    here: Batch = state
    for index in _coming(process.index, process.length, steps):
        ahead = process.at(index)
        here = state.standing_at(ahead, kernel_mean(here.x, here.x0, process.level, ahead.level, 0.0))
        here.predict()
        process = ahead
    return here.x0


def rewards_ahead(state: State, steps: int) -> Tensor:
    """Return each particle's reward after a look-ahead of ``steps`` evaluations; with 0, the reward of its x0.

    Returns:
        float64 ``[N]`` on the CPU.

    Raises:
        SteerError: see :func:`rollout`; and if the run has no reward.
    """
    return state.rewards_of(rollout(state, steps)) if steps else state.rewards()


def _coming(index: int, length: int, steps: int) -> list[int]:
    """Return the evaluations after ``index`` to make, as evenly spaced as whole numbers allow."""
    left = length - index - 1
    steps = min(steps, left)
    return [index + round((step + 1) * (left + 1) / (steps + 1)) for step in range(steps)]
