"""The symmetric flow (arXiv 2506.10634): one velocity over (image, semantics), forward to draw, backward to infer.

An image x and its semantics m swap roles with noise as t goes from 0 to 1, with σ = 1e-4:

    x_t = (1 − (1−σ)·t)·n_x + t·x        m_t = (1 − (1−σ)·t)·m + t·n_m

At t=0 the state is noise and the semantics; at t=1 it is the image and noise. Everything here works on the joint state
z = (x, m), ``[N, 2·C, H, W]``, with the image's channels first.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

SIGMA = 1e-4

Velocity = Callable[[Tensor, float], Tensor]
"""(z ``[N, 2·C, …]``, t in [0, 1]) to dz/dt of the same shape."""

SOLVERS: dict[str, tuple[tuple[float, ...], ...]] = {
    "euler": ((1.0,),),
    "midpoint": ((0.5,), (0.0, 1.0)),
    "rk4": ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Runge-Kutta rows: after evaluation number i, the next point is z + h·Σ_j row_i[j]·k_j; the last row is the step."""


def join(image: Tensor, semantics: Tensor) -> Tensor:
    """Join the two halves into z."""
    return torch.cat([image, semantics], dim=1)


def split(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image half and the semantics half of z."""
    image, semantics = z.chunk(2, dim=1)
    return image, semantics


def interpolate(x: Tensor, m: Tensor, noise_x: Tensor, noise_m: Tensor, t: Tensor) -> Tensor:
    """Return z_t for times ``t`` ``[N]`` in [0, 1]."""
    t = t.view(-1, *[1] * (x.ndim - 1))
    keep = 1 - (1 - SIGMA) * t
    return join(keep * noise_x + t * x, keep * m + t * noise_m)


def target(x: Tensor, m: Tensor, noise_x: Tensor, noise_m: Tensor) -> Tensor:
    """Return dz_t/dt, the same at every t: (x − (1−σ)·n_x, n_m − (1−σ)·m)."""
    return join(x - (1 - SIGMA) * noise_x, noise_m - (1 - SIGMA) * m)


def loss(velocity: Tensor, wanted: Tensor, image_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return w·MSE(image) + (1−w)·MSE(semantics), and the two errors."""
    (v_x, v_m), (u_x, u_m) = split(velocity), split(wanted)
    image, semantics = (v_x - u_x).square().mean(), (v_m - u_m).square().mean()
    return image_weight * image + (1 - image_weight) * semantics, image, semantics


def estimate(z: Tensor, velocity: Tensor, t: float, end: float) -> Tensor:
    """Return z at time ``end`` for a constant velocity: the flow's estimate of the end."""
    return z + (end - t) * velocity


def stages(solver: str, t: float, h: float) -> list[float]:
    """Return the times at which a step of length ``h`` from ``t`` evaluates the velocity."""
    rows = SOLVERS[solver]
    return [t, *(t + h * sum(row) for row in rows[:-1])]


def combine(z: Tensor, velocities: list[Tensor], solver: str, h: float) -> Tensor:
    """Return the point that a solver goes to after ``len(velocities)`` evaluations of its step from ``z``."""
    row = SOLVERS[solver][len(velocities) - 1]
    out = z
    for weight, velocity in zip(row, velocities, strict=True):
        if weight:
            out = out + h * weight * velocity
    return out


def grid(steps: int, shift: float = 1.0) -> tuple[list[float], list[float]]:
    """Return the ends of the steps from t=0 to t=1, ``steps + 1`` of them, and the steps' lengths.

    Args:
        steps: at least 1.
        shift: s of t = u / (u + s·(1−u)) for equal steps of u: above 1, steps are shorter where the image is noise
            (SD3, arXiv 2403.03206, eq. 23).
    """
    h = 1.0 / steps
    if shift == 1:
        return [step * h for step in range(steps + 1)], [h] * steps
    ends = [step / (step + shift * (steps - step)) for step in range(steps + 1)]
    return ends, [after - before for before, after in itertools.pairwise(ends)]


def integrate(
    velocity: Velocity, z: Tensor, start: float, end: float, steps: int, solver: str = "euler", shift: float = 1.0
) -> Tensor:
    """Follow dz/dt from ``start`` to ``end``; backward if ``end`` is smaller.

    Args:
        velocity: evaluated once (Euler), twice (midpoint) or four times (RK4) per step.
        steps: at least 1.
        solver: one of :data:`SOLVERS`.
        shift: see :func:`grid`; the steps are equal by default.
    """
    ends, lengths = grid(steps, shift)
    for begin, length in zip(ends[:-1], lengths, strict=True):
        h = (end - start) * length
        base, known = z, []
        for time in stages(solver, start + (end - start) * begin, h):
            known.append(velocity(z, time))
            z = combine(base, known, solver, h)
    return z
