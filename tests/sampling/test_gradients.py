"""Gradients through the whole sampler."""

from __future__ import annotations

import pytest
import torch
from support.tiny import tiny_sd

from steer import Sampler, SteerError


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    pipe = tiny_sd()
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.double()
    return Sampler(pipe)


def objective(sampler: Sampler, noise: torch.Tensor, grad: bool, **settings) -> torch.Tensor:
    arguments = {"steps": 4, "seed": 1, "guidance_scale": 3.0, **settings}
    return sampler.sample(noise, ["a red circle"], grad=grad, **arguments).pow(2).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"eta": 0.0}, {"eta": 1.0}, {"scheduler": "euler"}, {"scheduler": "dpm++"}, {"chunk": 1, "eta": 1.0}]
)
def test_gradient_by_the_noise_agrees_with_finite_differences(sampler: Sampler, settings) -> None:
    torch.manual_seed(0)
    noise = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(sampler, noise, True, **settings), noise)
    # a random direction alone may be nearly level: the objective is in float32, its difference must stand out
    direction = torch.randn_like(noise)
    direction = direction + gradient * (direction.norm() / gradient.norm())
    step = 1e-3
    up = objective(sampler, noise.detach() + step * direction, False, **settings)
    down = objective(sampler, noise.detach() - step * direction, False, **settings)
    expected = ((up - down) / (2 * step)).item()
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.slow
def test_samples_with_and_without_the_graph_are_equal(sampler: Sampler) -> None:
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = sampler.sample(noise, "a red circle", steps=4, eta=1.0, seed=1)
    graph = sampler.sample(noise.clone().requires_grad_(), "a red circle", grad=True, steps=4, eta=1.0, seed=1)
    assert not plain.requires_grad
    assert torch.equal(plain, graph.detach())


def saved_bytes(sampler: Sampler, steps: int) -> int:
    """Return the bytes that autograd keeps for the backward pass, each storage counted once."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    noise = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        objective(sampler, noise, True, steps=steps, eta=1.0)
    return sum(seen.values())


@pytest.mark.slow
def test_memory_for_the_graph_hardly_grows_with_the_steps(sampler: Sampler) -> None:
    latents = 2 * 4 * 8 * 8 * 8  # bytes of one step's latents
    few, many = saved_bytes(sampler, 4), saved_bytes(sampler, 16)
    assert many - few <= 12 * 20 * latents  # some latents a step, never a denoiser's activations


def test_rows_that_do_not_divide_among_prompts_are_refused(sampler: Sampler) -> None:
    with pytest.raises(SteerError, match="3 rows, expected a multiple of the 2 prompts"):
        sampler.sample(torch.randn(3, 4, 8, 8), ["a red circle", "a blue square"])
