"""The noise schedule for training: any rows, any timesteps, and back to x0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer.plugin import scheduler_kind

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Latents ``[B, …]`` and timesteps ``[B]`` to an estimate of x0."""


@dataclass(frozen=True)
class Schedule:
    """x_t = α_t·x0 + σ_t·noise; α² + σ² = 1 for diffusion, α + σ = 1 for a flow.

    Attributes:
        alpha, sigma: by timestep.
        prediction_type: what the denoisers predict: ``"epsilon"``, ``"v_prediction"`` (α·noise − σ·x0) or ``"flow"``
            (noise − x0).
    """

    alpha: Tensor
    sigma: Tensor
    prediction_type: str = "epsilon"

    @classmethod
    def of(cls, scheduler: Any, device: torch.device) -> Schedule:
        """Return the schedule of a diffusers scheduler."""
        if scheduler_kind(scheduler) == "flow":
            sigma = torch.linspace(0, 1, scheduler.config.num_train_timesteps + 1, device=device)
            return cls(1 - sigma, sigma, "flow")
        kind = str(scheduler.config.get("prediction_type", "epsilon"))
        return cls.of_alphas(scheduler.alphas_cumprod.to(device, torch.float32), kind)

    @classmethod
    def of_alphas(cls, alphas_cumprod: Tensor, prediction_type: str = "epsilon") -> Schedule:
        """Return the schedule of diffusion with the given α² by timestep."""
        return cls(alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt(), prediction_type)

    def __len__(self) -> int:
        return len(self.alpha)

    def level(self, timestep: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        """Return α and σ of timesteps ``[B]``, shaped to multiply ``[B, …]`` of ``ndim`` dimensions."""
        shape = (-1, *[1] * (ndim - 1))
        return self.alpha[timestep].view(shape), self.sigma[timestep].view(shape)

    def diffuse(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Return x_t ``[B, …]``."""
        alpha, sigma = self.level(timestep, x0.ndim)
        return alpha * x0 + sigma * noise

    def x0(self, x: Tensor, prediction: Tensor, timestep: Tensor) -> Tensor:
        """Return the estimate of x0 from a denoiser's output."""
        alpha, sigma = self.level(timestep, x.ndim)
        if self.prediction_type == "flow":
            return x - sigma * prediction
        if self.prediction_type == "v_prediction":
            return alpha * x - sigma * prediction
        return (x - sigma * prediction) / alpha

    def target(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Return the target for a denoiser's output."""
        alpha, sigma = self.level(timestep, x0.ndim)
        if self.prediction_type == "flow":
            return noise - x0
        return alpha * noise - sigma * x0 if self.prediction_type == "v_prediction" else noise

    def draw(self, count: int, generator: torch.Generator, low: float = 0.02, high: float = 0.98) -> Tensor:
        """Draw timesteps ``[count]``, uniform in the share ``[low, high)`` of all, on the generator's device.

        One comes from each of ``count`` equal parts, in random order: that reduces the variance of sums over a batch.
        """
        device = generator.device
        parts = torch.randperm(count, generator=generator, device=device)
        places = (parts + torch.rand(count, generator=generator, device=device)) / count
        return ((low + (high - low) * places) * len(self)).long()


def simulate(
    denoise: Denoise, schedule: Schedule, noises: Sequence[Tensor], timesteps: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """Run a student and return its input at each of its steps (backward simulation, sec. 4.5).

    The first step gets pure noise; each later step gets the sample so far with fresh noise.

    Args:
        denoise: the student, without gradient.
        noises: K tensors ``[B, …]``, one per step.
        timesteps: K timesteps, highest first.

    Returns:
        K pairs of x_t ``[B, …]`` and timesteps ``[B]``.
    """
    x, inputs = noises[0], []
    for index, timestep in enumerate(timesteps):
        rows = torch.full((len(x),), timestep, dtype=torch.long, device=x.device)
        inputs.append((x, rows))
        if index + 1 < len(timesteps):
            following = torch.full_like(rows, timesteps[index + 1])
            x = schedule.diffuse(denoise(x, rows), noises[index + 1], following)
    return inputs


def forward_inputs(
    x0: Tensor, schedule: Schedule, noises: Sequence[Tensor], timesteps: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """Like :func:`simulate`, but with diffused data ``x0`` instead of the student's own samples."""
    inputs = []
    for index, timestep in enumerate(timesteps):
        rows = torch.full((len(x0),), timestep, dtype=torch.long, device=x0.device)
        x = noises[0] if index == 0 else schedule.diffuse(x0, noises[index], rows)
        inputs.append((x, rows))
    return inputs
