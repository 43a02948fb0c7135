"""Flux.1."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from support.families import Family, inference
from support.families.texts import t5_text, t5_tokenizer
from support.tiny import clip_text, clip_tokenizer, tiny_vae

WIDTH, HEIGHT = 16, 24


def tiny_flux(guidance_embeds: bool = True, **scheduler: object) -> FluxPipeline:
    """Return Flux with an autoencoder that halves each side once, dev or (without ``guidance_embeds``) schnell."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=4,
            joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=guidance_embeds, axes_dims_rope=(4, 2, 2),
        )  # fmt: skip
        vae = tiny_vae(4, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False)
        encoders = {"text_encoder": clip_text(), "text_encoder_2": t5_text()}
    return inference(
        FluxPipeline(
            transformer=transformer, vae=vae, tokenizer=clip_tokenizer(), tokenizer_2=t5_tokenizer(),
            scheduler=FlowMatchEulerDiscreteScheduler(**scheduler), **encoders,
        )
    )  # fmt: skip


def tiny_dev() -> FluxPipeline:
    """Return Flux dev: guidance is an input, the noise levels depend on the size."""
    return tiny_flux(shift=3.0, use_dynamic_shifting=True)


def tiny_schnell() -> FluxPipeline:
    """Return Flux schnell."""
    return tiny_flux(guidance_embeds=False)


def spatial(packed: Tensor) -> Tensor:
    return FluxPipeline._unpack_latents(packed, HEIGHT, WIDTH, 2)


ROOM = 24


def both(guidance_scale: float, true_cfg_scale: float = 1.0) -> tuple[dict[str, float], dict[str, object]]:
    """Return settings and the stock call's keyword arguments that mean the same."""
    scales = {"guidance_scale": guidance_scale, "true_cfg_scale": true_cfg_scale}
    negative = {"negative_prompt": [""] * 2} if true_cfg_scale > 1 else {}
    return scales, {**scales, **negative, "max_sequence_length": ROOM}


SMALL = {"spatial": spatial, "size": (WIDTH, HEIGHT), "backbone": {"text_tokens": ROOM}}
DEV = {"schedulers": ("flow-euler", "flow-dpm++", "flow-unipc"), **SMALL}

FAMILIES = [
    Family("flux-dev", tiny_dev, *both(5.0), *both(1.0), negative={}, **DEV),
    Family("flux-dev-true-cfg", tiny_dev, *both(5.0, 3.0), *both(5.0), **DEV),
    Family("flux-schnell", tiny_schnell, *both(0.0, 3.0), *both(0.0), schedulers=("flow-unipc",), **SMALL),
]
