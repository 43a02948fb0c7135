"""Stable Diffusion 1.x, SDXL and SD3."""

from __future__ import annotations

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from support.families import Family, inference
from support.families.texts import t5_text, t5_tokenizer
from support.tiny import clip_text, clip_tokenizer, tiny_sd, tiny_vae


def tiny_sdxl() -> StableDiffusionXLPipeline:
    """Return SDXL at 8×8 latents."""
    base = tiny_sd()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
            addition_embed_type="text_time", addition_time_embed_dim=8, cross_attention_dim=64,
            projection_class_embeddings_input_dim=80,
        )  # fmt: skip
        second = clip_text(projection=32)
    return inference(
        StableDiffusionXLPipeline(
            vae=base.vae, text_encoder=base.text_encoder, text_encoder_2=second, tokenizer=base.tokenizer,
            tokenizer_2=base.tokenizer, unet=unet, scheduler=base.scheduler, add_watermarker=False,
        )
    )  # fmt: skip


def tiny_sd3(**scheduler: object) -> StableDiffusion3Pipeline:
    """Return SD3 at 8×8 latents of 16 channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
            num_attention_heads=4, joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64,
            pos_embed_max_size=16,
        )  # fmt: skip
        vae = tiny_vae(16, shift_factor=0.0609, scaling_factor=1.5305, use_quant_conv=False, use_post_quant_conv=False)
        parts = {
            "text_encoder": clip_text(projection=32),
            "text_encoder_2": clip_text(projection=32),
            "text_encoder_3": t5_text(64),
        }
        flow = FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler})
    return inference(
        StableDiffusion3Pipeline(
            transformer=transformer, vae=vae, tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(),
            tokenizer_3=t5_tokenizer(), scheduler=flow, **parts,
        )
    )  # fmt: skip


def tiny_sd3_shifting() -> StableDiffusion3Pipeline:
    """Return the same with a shift that depends on the size."""
    return tiny_sd3(use_dynamic_shifting=True)


CFG = {"guided": {"guidance_scale": 5.0}, "stock": {"guidance_scale": 5.0}}
OFF = {"plain": {"guidance_scale": 1.0}, "stock_plain": {"guidance_scale": 1.0}}
VP = ("ddim", "ddpm", "euler", "euler-a", "dpm++", "dpm++-karras", "dpm++-sde", "unipc", "deis", "pndm", "lms", "lcm")

FAMILIES = [
    # latents of SD itself are in test_parity, for every scheduler and both predictions
    Family("sd", tiny_sd, **CFG, **OFF),
    Family("sdxl", tiny_sdxl, **CFG, **OFF, schedulers=VP),
    Family("sd3", tiny_sd3, **CFG, **OFF, schedulers=("flow-euler", "flow-dpm++", "flow-unipc", "flow-heun")),
    Family("sd3-shifting", tiny_sd3_shifting, **CFG, **OFF, schedulers=("flow-dpm++",), size=(24, 16)),
]
