"""Resizing on a device: the library's images, and its gradient, added up in one order."""

from __future__ import annotations

import pytest
import torch
from support.pretended import CUDA, pretended
from support.tiny import tiny_sd
from torch.nn import functional

from steer import Prompt
from steer.models.load import load_model
from steer.registry.plugins import manager
from steer.rewards.resizing import resized
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(7, 12), (40, 21)])
def test_images_and_gradients_are_the_librarys(size, mode: str) -> None:
    images = torch.rand(2, 3, 20, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    expected = functional.interpolate(leaf, size, mode=mode, antialias=True, align_corners=False)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), leaf)
    with pretended() as traffic:
        there = images.to(CUDA).requires_grad_()
        out = resized(there, size, mode)
        (ours,) = torch.autograd.grad((out * weight.to(CUDA)).sum(), there)
        assert traffic.syncs.total() == 0
    assert torch.equal(out.detach().cpu(), expected) and torch.allclose(ours.cpu(), gradient, atol=1e-12)


@pytest.mark.slow
def test_gradients_by_the_noise_are_computed_by_repeatable_kernels() -> None:
    asked = []

    def loss(samples, prompts):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return samples.mean(dim=(1, 2, 3))

    with pretended():
        backbone = load_model(tiny_sd().to(torch.device(CUDA)), manager()).backbone
        run = make_run(backbone, [Prompt("a red circle", seed=1)], settings={"steps": 1})
        vjp(run, run.start, {"loss": loss})
    assert asked == [CUDA == "cuda"] and not torch.are_deterministic_algorithms_enabled()
