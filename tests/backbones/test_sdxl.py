"""SDXL at tiny random sizes: stock's output, and rows that do not depend on their neighbours."""

from __future__ import annotations

import diffusers
import pytest
import torch
from tiny import brightness, tiny_sd
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from steer.api import Sampler
from steer.models import load_model
from steer.plugins import manager
from steer.process.schedulers import make_scheduler
from steer.prompts import Prompt
from steer.run import Run

TEXTS = ["a red circle", "a blue square"]
SEEDS = [5, 90]


@pytest.fixture(scope="module")
def pipe() -> diffusers.StableDiffusionXLPipeline:
    base = tiny_sd()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
            addition_embed_type="text_time", addition_time_embed_dim=8, cross_attention_dim=64,
            projection_class_embeddings_input_dim=80,
        ).eval()  # fmt: skip
        config = CLIPTextConfig(**{**base.text_encoder.config.to_dict(), "projection_dim": 32})
        second = CLIPTextModelWithProjection(config).eval()
    made = diffusers.StableDiffusionXLPipeline(
        vae=base.vae, text_encoder=base.text_encoder, text_encoder_2=second, tokenizer=base.tokenizer,
        tokenizer_2=base.tokenizer, unet=unet, scheduler=base.scheduler, add_watermarker=False,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def run_steer(pipe, scheduler: str, texts=TEXTS, seeds=SEEDS, **settings):
    prompts = [Prompt(text, seed=seed) for text, seed in zip(texts, seeds, strict=True)]
    given = {"steps": 6, "scheduler": scheduler, "chunk": 4, "particles": 2, "guidance_scale": 5.0}
    return Run(load_model(pipe, manager()).backbone, prompts, settings={**given, **settings}).search()


def run_stock(pipe, scheduler: str, output: str, **keywords):
    parts = {**pipe.components, "scheduler": make_scheduler(scheduler, pipe.scheduler)}
    stock = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed + slot) for seed in SEEDS for slot in range(2)]
    return stock(
        TEXTS, num_images_per_prompt=2, num_inference_steps=6, generator=generators, output_type=output,
        **{"guidance_scale": 5.0, **keywords},
    ).images  # fmt: skip


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "euler", "euler-a", "dpm++", "unipc", "lcm"])
def test_latents_equal_stock(pipe, scheduler, record_testsuite_property) -> None:
    stock = run_stock(pipe, scheduler, "latent")
    difference = float((run_steer(pipe, scheduler).x - stock).abs().max() / stock.abs().max().clamp(min=1))
    record_testsuite_property(f"parity sdxl {scheduler}", difference)
    assert difference <= 1e-5


def test_images_equal_stock_with_and_without_guidance_and_negative(pipe) -> None:
    for ours, theirs in (
        ({}, {}),
        ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
        ({"negative": "a circle"}, {"negative_prompt": ["a circle"] * 2}),
    ):
        assert (run_steer(pipe, "euler", **ours).samples - run_stock(pipe, "euler", "pt", **theirs)).abs().max() <= 1e-5


def test_a_row_does_not_depend_on_its_neighbours(pipe) -> None:
    together = run_steer(pipe, "euler").x
    alone = run_steer(pipe, "euler", TEXTS[1:], SEEDS[1:], particles=1, chunk=1).x
    assert (together[2:3] - alone).abs().max() <= 1e-4 * max(1, float(together.abs().max()))


def test_fk_runs_on_several_prompts(pipe) -> None:
    Sampler(pipe).generate(TEXTS, methods=["fk"], reward=brightness, particles=2, steps=6)


def test_an_overflowing_half_precision_vae_decodes_in_fp32(pipe) -> None:
    backbone = load_model(pipe, manager()).backbone
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = backbone.decode(x)
    half = diffusers.AutoencoderKL.from_config(pipe.vae.config).eval()
    half.load_state_dict(pipe.vae.state_dict())
    half.half().register_to_config(force_upcast=True)
    parts = {**pipe.components, "vae": half}
    made = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    assert (load_model(made, manager()).backbone.decode(x) - whole).abs().max() <= 1e-2
    assert half.dtype == torch.float16


def test_steering_brightness_moves_it_up(pipe) -> None:
    prompts = [Prompt(f"a red circle {i}", seed=10 * i) for i in range(24)]

    def mean_by_prompt(methods: list[str]) -> torch.Tensor:
        result = Sampler(pipe).generate(
            prompts, methods=methods, reward=brightness, options={"fk": {"lambda": 1000.0}} if methods else None,
            particles=4, steps=6, scheduler="ddim", eta=1.0,
        )  # fmt: skip
        return torch.tensor([item.mean_reward for item in result.items])

    gain = mean_by_prompt(["fk"]) - mean_by_prompt([])
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5
