"""Resizing on a device: the library's images, and its gradient, added up in one order."""

from __future__ import annotations

import pytest
import torch
from support.pretended import CUDA, pretended
from support.tiny import tiny_sd
from torch.nn import functional

from steer import Method, Prompt, hookimpl
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
        library = functional.interpolate(images.to(CUDA), size, mode=mode, antialias=True, align_corners=False)
        (ours,) = torch.autograd.grad((out * weight.to(CUDA)).sum(), there)
        assert traffic.syncs.total() == 0
    assert torch.equal(out.detach().cpu(), library.cpu()) and torch.allclose(ours.cpu(), gradient, atol=1e-12)


class Noting(torch.autograd.Function):
    """Notes how torch chooses kernels, there and back."""

    @staticmethod
    def forward(ctx, x, asked):
        ctx.asked = asked
        asked.append(strictly())
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.asked.append(strictly())
        return gradient, None


def strictly() -> bool:
    """Whether what has no repeatable kernel is refused; attention's own would be another if torch only warned."""
    return torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["by the noise", "within a run"])
def test_gradients_are_computed_by_repeatable_kernels(where: str) -> None:
    in_reward, in_model = [], []

    def loss(samples, prompts):
        return Noting.apply(samples, in_reward).mean(dim=(1, 2, 3))

    class Climbs(Method):
        name = "climbs"

        @hookimpl
        def after_predict(self, state) -> None:
            state.gradient(loss)

    with pretended():
        backbone = load_model(tiny_sd().to(torch.device(CUDA)), manager()).backbone
        backbone.pipe.vae.decoder.register_forward_hook(lambda module, inputs, out: Noting.apply(out, in_model))
        run = make_run(backbone, [Prompt("a red circle", seed=1)], settings={"steps": 1},
                       methods=[Climbs()] if where == "within a run" else [])  # fmt: skip
        if where == "by the noise":
            vjp(run, run.start, {"loss": loss})
        else:
            run.search()
    assert in_reward == [CUDA == "cuda"] * 2
    assert in_model == [CUDA == "cuda"] * 3 and not strictly()  # there, there again, and back
