"""CogVideoX's schedulers take eta and clip_sample, and follow neither: estimates and noise are ours."""

from __future__ import annotations

import diffusers
import pytest
import torch

from steer.errors import SteerError
from steer.processes.gaussian import Gaussian
from steer.processes.noise import Streams


def process(eta: float | None, name: str = "CogVideoXDDIMScheduler") -> Gaussian:
    scheduler = getattr(diffusers, name)(clip_sample=True)
    scheduler.set_timesteps(4)
    return Gaussian(scheduler, eta=eta)


def streams(rows: int) -> Streams:
    return Streams([torch.Generator().manual_seed(seed) for seed in range(rows)])


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, prediction = torch.randn(2, count, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    return 3 * x, prediction


def test_the_last_estimate_is_the_end() -> None:
    here = process(None)
    x, prediction = drawn(2)
    while here.index < here.length - 1:
        x = here.step(x, prediction, streams(2))
    expected = here.estimate(x, prediction)
    assert expected.abs().max() > 1  # a clipped one would not be
    assert torch.allclose(here.step(x, prediction, streams(2)), expected, atol=1e-5)


def test_the_kernel_without_noise_is_its_own_step() -> None:
    x, prediction = drawn(2)
    own, ours = process(None), process(1.0)
    ours.eta = 0.0
    assert torch.allclose(own.step(x, prediction, streams(2)), ours.step(x, prediction, streams(2)), atol=1e-5)


def test_copies_part_with_eta() -> None:
    x, prediction = (value.expand(2, -1, -1, -1, -1) for value in drawn(1))
    apart = process(1.0)
    assert apart.stochastic and not process(None).stochastic
    first, second = apart.step(x, prediction, streams(2))
    assert not torch.allclose(first, second, atol=0.1)


def test_a_scheduler_with_noise_of_its_own_takes_no_eta() -> None:
    assert process(None, "CogVideoXDPMScheduler").stochastic
    with pytest.raises(SteerError, match="whose steps have no eta"):
        process(1.0, "CogVideoXDPMScheduler")
