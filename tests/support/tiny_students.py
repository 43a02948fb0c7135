"""Tiny bases and students for the tests of dmd2."""

from __future__ import annotations

import copy
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from steer_dmd2.differences import differences
from steer_dmd2.student import Student, write_card
from support.tiny import tiny_sd


def tiny_sdxl() -> diffusers.StableDiffusionXLPipeline:
    """A tiny random SDXL pipeline, made in memory."""
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
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=base.vae, text_encoder=base.text_encoder, text_encoder_2=second, tokenizer=base.tokenizer,
        tokenizer_2=base.tokenizer, unet=unet, scheduler=base.scheduler, add_watermarker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unet_file(pipe: diffusers.DiffusionPipeline, path: Path) -> Path:
    """Write other weights for a pipeline's UNet, as the published ``.bin`` files are: a pickled state dict."""
    generator = torch.Generator().manual_seed(3)
    state = {
        name: value + 0.05 * torch.randn(value.shape, generator=generator)
        for name, value in pipe.unet.state_dict().items()
    }
    torch.save(state, path)
    return path


def difference_folder(pipe: diffusers.DiffusionPipeline, path: Path) -> Path:
    """Write the same weights as differences, with their card, for four steps; return the folder."""
    weights = torch.load(unet_file(pipe, path.with_suffix(".bin")), weights_only=True)
    save_file(differences(weights, pipe.unet.state_dict()), path)
    four = {4: (999, 749, 499, 249)}
    write_card(Student(family=type(pipe).__name__, base="tiny", schedules=four, form="difference"), path.parent)
    return path.parent


def lora_file(pipe: diffusers.DiffusionPipeline, path: Path) -> Path:
    """Write a LoRA for a pipeline's UNet in diffusers' format."""
    return lora_of(pipe.unet, "unet", path)


def lora_of(denoiser: torch.nn.Module, part: str, path: Path) -> Path:
    """Write a LoRA for a denoiser, which is that part of its pipeline, in diffusers' format."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    copied = copy.deepcopy(denoiser)
    targets = ["to_q", "to_v", *(("conv1",) if part == "unet" else ())]
    copied.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False))
    state = get_peft_model_state_dict(copied)
    save_file({f"{part}.{name}": value.contiguous() for name, value in state.items()}, path)
    return path
