"""A diffusion of which everything is known: Gaussian data, the exact denoiser, decoding by doing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.backbones.base import Backbone, Conditioning, Encoded
from steer.noise import Streams
from steer.prompts import Prompt

MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.6, 0.25], [0.25, 0.4]], dtype=torch.float64)


class LinearGaussian(Backbone):
    """ε-prediction of x0 ~ N(MEAN, COVARIANCE) under a VP schedule: E[ε | x], exactly."""

    default_steps = 10
    default_guidance = 1.0

    def __init__(self, scheduler: Any) -> None:
        pipe = SimpleNamespace(scheduler=scheduler, _execution_device=torch.device("cpu"))
        super().__init__(pipe, torch.nn.Identity())

    def guided(self, guidance_scale: float) -> bool:
        return False

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        return {"nothing": torch.zeros(1, 1)}, None

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        return (2,)

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        abar = float(self.scheduler.alphas_cumprod[int(timestep)])
        gain, offset = posterior_mean(abar)
        x0 = x.double() @ torch.from_numpy(gain).T + torch.from_numpy(offset)
        return ((x - abar**0.5 * x0) / (1 - abar) ** 0.5).float()

    def decode(self, x: Tensor) -> Tensor:
        return x


def posterior_mean(abar: float) -> tuple[np.ndarray, np.ndarray]:
    """Return G, h of E[x0 | x] = G·x + h."""
    mean, covariance = MEAN.numpy(), COVARIANCE.numpy()
    gain = abar**0.5 * covariance @ np.linalg.inv(abar * covariance + (1 - abar) * np.eye(2))
    return gain, mean - abar**0.5 * gain @ mean


def chain(abars: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the last x of ancestral sampling (DDIM, η=1) over the levels ``abars``.

    The recursion of the sampler's own Gaussian chain from N(0, 1), by DDIM's eq. 12 and 16 with the exact
    denoiser; nothing of ``steer`` is used.
    """
    mean, covariance = np.zeros(2), np.eye(2)
    for here, there in zip(abars, [*abars[1:], 1.0], strict=True):
        gain, offset = posterior_mean(here)
        variance = (1 - there) / (1 - here) * (1 - here / there)
        noise = np.sqrt(max(0.0, 1 - there - variance)) / np.sqrt(1 - here)
        a = np.sqrt(there) * gain + noise * (np.eye(2) - np.sqrt(here) * gain)
        b = np.sqrt(there) * offset - noise * np.sqrt(here) * offset
        mean, covariance = a @ mean + b, a @ covariance @ a.T + variance * np.eye(2)
    return mean, covariance


class OneStream(Streams):
    """All rows' noise from one generator: a million particles are drawn in no time, and it is as normal.

    Streams of a slot's own cost about 3 µs a row and transition, most of the time of a run without a network.
    """

    count = 0

    @classmethod
    def seeded(cls, seeds: Sequence[int], slots: Sequence[int]) -> OneStream:
        streams = cls([torch.Generator().manual_seed(seeds[0])])
        streams.count = len(slots)
        return streams

    def __len__(self) -> int:
        return self.count

    def normal(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generators[0])
