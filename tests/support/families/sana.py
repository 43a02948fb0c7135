"""Sana."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)
from torch import Tensor

from steer.models.families.sana import INSTRUCTION
from support.families import Family, inference
from support.families.texts import gemma_text, gemma_tokenizer


def tiny_dc() -> AutoencoderDC:
    """Return a random deep-compression autoencoder: 32×32 images from 8×8 latents. Seed torch before."""
    blocks = {"block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 16, 32),
              "layers_per_block": (1, 1, 1), "qkv_multiscales": ((), (), (5,))}  # fmt: skip
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in blocks.items()}
    return AutoencoderDC(
        latent_channels=8, attention_head_dim=8, upsample_block_type="interpolate", downsample_block_type="conv",
        scaling_factor=0.41407, **sides,
    )  # fmt: skip


def tiny_sana() -> SanaPipeline:
    """Return Sana at 8×8 latents of 8 channels, with the scheduler that it ships with."""
    tokenizer = gemma_tokenizer(INSTRUCTION)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SanaTransformer2DModel(
            sample_size=8, in_channels=8, out_channels=8, num_layers=2, num_attention_heads=4, attention_head_dim=8,
            num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=32,
        )  # fmt: skip
        parts = {"vae": tiny_dc(), "text_encoder": gemma_text(tokenizer)}
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="linear", beta_end=0.02, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return inference(SanaPipeline(tokenizer=tokenizer, transformer=transformer, scheduler=scheduler, **parts))


def tiny_sprint() -> SanaSprintPipeline:
    """Return SANA-Sprint at the same sizes: guidance is an input, queries and keys are normalized."""
    base = tiny_sana()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {name: value for name, value in base.transformer.config.items() if not name.startswith("_")}
        transformer = SanaTransformer2DModel(**config | {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"})
    parts = {**base.components, "transformer": transformer, "scheduler": SCMScheduler()}
    return inference(SanaSprintPipeline(**parts))


def in_units_of_sigma_data(latents: Tensor) -> Tensor:
    return latents * SCMScheduler().config.sigma_data


EXACT = {"use_resolution_binning": False, "height": 32, "width": 32}
SPRINT = {"intermediate_timesteps": None, **EXACT}

FAMILIES = [
    Family(
        "sana", tiny_sana, guided={"guidance_scale": 4.5}, stock={"guidance_scale": 4.5, **EXACT},
        plain={"guidance_scale": 1.0}, stock_plain={"guidance_scale": 1.0, **EXACT},
        schedulers=("flow-euler", "flow-dpm++-sde", "flow-unipc", "flow-lcm"),
        stochastic={"scheduler": "flow-euler", "eta": 1.0}, by_row=True,
    ),
    Family(
        "sana-sprint", tiny_sprint, guided={"guidance_scale": 4.5}, stock={"guidance_scale": 4.5, **SPRINT},
        plain={"guidance_scale": 1.0}, stock_plain={"guidance_scale": 1.0, **SPRINT}, negative={},
        spatial=in_units_of_sigma_data, stochastic={}, by_row=True,
    ),
]  # fmt: skip
