"""Peaks of memory on a GPU, by the model of it: what is decoded, encoded and differentiated at full size."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from support.memory_model import Memory, modeled
from support.pretended import REAL
from support.tiny import brightness, tiny_sd

from steer import Prompt
from steer.models.load import load_model
from steer.registry.plugins import manager
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run
from steer.sampling.run import Run

pytestmark = pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself")
GB = 1e9


def run_of(size: int, **settings: Any) -> Run:
    """Return a run whose decoder has the two widest of Stable Diffusion's blocks, in fp32; the others add little."""
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=2,
        ).eval()  # fmt: skip
    pipe = type(tiny_sd())(**{**tiny_sd().components, "vae": vae}, requires_safety_checker=False)
    backbone = load_model(pipe.to("cuda"), manager()).backbone
    given = {"width": size, "height": size, "particles": 4, "chunk": 4, "steps": 1, **settings}
    return make_run(backbone, [Prompt("a red circle", seed=1)], settings=given)


def decode_peak(memory: Memory, run: Run, rows: int) -> float:
    latents = torch.zeros(rows, *run.latent_shape, device="cuda")
    with torch.no_grad():
        return memory.beside(lambda: run.forwards.decode(latents)) / GB


@pytest.mark.slow
def test_the_model_agrees_with_arithmetic() -> None:
    with modeled() as memory:
        one = torch.zeros(1000, 1000, device="cuda")
        assert memory.now == memory.peak == 4_000_256  # in blocks of 512
        view = one[:10]
        assert memory.beside(partial(torch.addmm, one, one, one)) == memory.now
        del one
        assert memory.now == 4_000_256  # the view keeps it
        del view
        assert memory.now == 0
        leaf = torch.zeros(250_000, device="cuda", requires_grad=True)
        assert memory.beside(lambda: leaf.exp().sin().sum().backward()) >= 3 * leaf.nbytes


@pytest.mark.slow  # three decoders
def test_a_chunks_images_are_decoded_in_batches_of_a_size_that_a_card_holds() -> None:
    with modeled() as memory:
        run = run_of(1024)
        one, two = decode_peak(memory, run, 1), decode_peak(memory, run, 2)
        assert one == pytest.approx(3.2, abs=0.1)
        assert two - one < 0.05  # the finished images
        assert decode_peak(memory, run_of(512), 4) == pytest.approx(one, rel=0.05)  # four small ones at once


@pytest.mark.slow  # there and back twice
def test_a_gradient_through_a_decoder_keeps_few_activations() -> None:
    with modeled() as memory:
        run = run_of(512, particles=2)
        losses = {"brightness": brightness}
        peak = memory.beside(lambda: vjp(run, run.start, losses)) / GB
        kept = memory.beside(lambda: vjp(run, run.start, losses, recompute=False)) / GB
        assert peak < 4 and kept > 2 * peak  # two rows at once, each with all of its activations


@pytest.mark.slow
def test_encodings_wait_on_the_cpu() -> None:
    with modeled() as memory:
        run = run_of(512)
        before = memory.now
        conditioning = run.encode()
        assert conditioning.cond["text"].device.type == "cuda"
        del conditioning
        assert memory.now == before
