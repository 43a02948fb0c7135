"""A diffusion of which everything is known: Gaussian data, the exact denoiser, decoding by doing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.processes.gaussian import Gaussian
from steer.processes.noise import Streams
from steer.prompts.prompt import Prompt

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
        alpha, sigma = level = vp(float(self.scheduler.alphas_cumprod[int(timestep)]))
        return ((x - alpha * expected(x, level)) / sigma).float()

    def decode(self, x: Tensor) -> Tensor:
        return x


class LinearFlow(LinearGaussian):
    """Velocity E[ε − x0 | x] of the flow x = (1−σ)·x0 + σ·ε from the same x0, exactly; flow-matching schedulers."""

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        level = flow(float(timestep) / self.scheduler.config.num_train_timesteps)
        return ((x - expected(x, level)) / level[1]).float()


Level = tuple[float, float]
"""(alpha, sigma) of x = alpha·x0 + sigma·ε."""
Moments = tuple[np.ndarray, np.ndarray]
"""Mean and covariance."""


def vp(abar: float) -> Level:
    """Return the level of a variance-preserving diffusion."""
    return abar**0.5, (1 - abar) ** 0.5


def flow(sigma: float) -> Level:
    """Return the level of a flow."""
    return 1 - sigma, sigma


def posterior_mean(level: Level) -> tuple[np.ndarray, np.ndarray]:
    """Return G, h of E[x0 | x] = G·x + h."""
    (alpha, sigma), (mean, covariance) = level, (MEAN.numpy(), COVARIANCE.numpy())
    gain = alpha * covariance @ np.linalg.inv(alpha**2 * covariance + sigma**2 * np.eye(2))
    return gain, mean - alpha * gain @ mean


def expected(x: Tensor, level: Level) -> Tensor:
    """Return E[x0 | x] of rows, in fp64."""
    gain, offset = posterior_mean(level)
    return x.double() @ torch.from_numpy(gain).T + torch.from_numpy(offset)


def marginal(level: Level) -> Moments:
    """Return the moments of x itself at a level."""
    alpha, sigma = level
    return alpha * MEAN.numpy(), alpha**2 * COVARIANCE.numpy() + sigma**2 * np.eye(2)


def chain(levels: Sequence[Level], eta: float = 1.0, *, renoise: bool = False) -> list[Moments]:
    """Return the moments of x after each transition of a sampler from N(0, 1) over the levels, the last one to data.

    The recursion of the sampler's own Gaussian chain with the exact denoiser, from the forward process: at η=1 a
    transition is its posterior q(x' | x, x0) with E[x0 | x] for x0, at η in between its sd is η times that, and the
    mean's noise makes up for it (DDIM, arXiv 2010.02502, eq. 12 and 16, at any alpha and sigma). Nothing of ``steer``
    is used.

    Args:
        levels: of the denoiser's evaluations, noisiest first.
        renoise: noise x0 afresh in every transition instead (arXiv 2303.01469, algorithm 1).
    """
    mean, covariance = np.zeros(2), np.eye(2)
    moments = []
    for (alpha, sigma), there in zip(levels, [*levels[1:], (1.0, 0.0)], strict=True):
        gain, offset = posterior_mean((alpha, sigma))
        alpha_next, sigma_next = there
        added = sigma**2 - (alpha / alpha_next) ** 2 * sigma_next**2  # variance that noising adds on the way back
        variance = sigma_next**2 if renoise else eta**2 * added * sigma_next**2 / sigma**2
        noise = max(0.0, sigma_next**2 - variance) ** 0.5 / sigma
        a = alpha_next * gain + noise * (np.eye(2) - alpha * gain)
        b = (alpha_next - noise * alpha) * offset
        mean, covariance = a @ mean + b, a @ covariance @ a.T + variance * np.eye(2)
        moments.append((mean, covariance))
    return moments


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

    def keep(self, rows: Sequence[int]) -> OneStream:
        streams = OneStream(self.generators)
        streams.count = len(rows)
        return streams

    def normal(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generators[0])


class Given(Streams):
    """Streams that give draw after draw what they were made with, each ``[N, …]``."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__([])
        self.draws = iter(draws)

    def normal(self, shape, device) -> Tensor:
        return next(self.draws)


def process(backbone: LinearGaussian, steps: int, transitions: int | None, eta: float | None = None) -> Gaussian:
    settings = {"scheduler": None, "steps": steps, "timesteps": None, "eta": eta, "transitions": transitions}
    return backbone.process(settings, (2,))


def run_through(
    backbone: LinearGaussian, one: Gaussian, x: Tensor, streams: Streams, until: int | None = None
) -> Tensor:
    nothing = Conditioning({}, None, 1.0)
    while not one.done and (until is None or one.index < until):
        prediction = backbone.predict("base", one.model_input(x), one.timestep, nothing)
        x = one.step(x, prediction.double(), streams)
    return x


def affine_moments(backbone: LinearGaussian, steps: int, transitions: int) -> Moments:
    """Return mean and covariance of the samples, exactly: everything is affine in the noise, which is N(0, 1)."""
    numbers = 2 * (transitions + 1)
    basis = torch.cat([torch.zeros(1, numbers), torch.eye(numbers)]).double()
    first, *draws = basis.reshape(len(basis), transitions + 1, 2).unbind(1)
    one = process(backbone, steps, transitions)
    out = run_through(backbone, one, one.prior(first), Given(torch.stack(draws))).numpy()
    slopes = (out[1:] - out[0]).T
    return out[0], slopes @ slopes.T
