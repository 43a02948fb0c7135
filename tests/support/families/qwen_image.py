"""Qwen-Image."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from support.families import Family, inference
from support.families.qwen_texts import qwen_tokenizer

WIDTH, HEIGHT = 24, 16


def tiny_qwen_image() -> QwenImagePipeline:
    """Return Qwen-Image with an autoencoder that halves each side once."""
    tokenizer = qwen_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
            joint_attention_dim=32, axes_dims_rope=(4, 2, 2),
        )  # fmt: skip
        vae = AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
            latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.2, 0.8, 1.0, 1.5],
        )  # fmt: skip
        text = {
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        }  # fmt: skip
        vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
        encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192,
        shift_terminal=0.02, time_shift_type="exponential",
    )  # fmt: skip
    return inference(
        QwenImagePipeline(
            transformer=transformer, vae=vae, text_encoder=encoder, tokenizer=tokenizer, scheduler=scheduler
        )
    )


def spatial(packed: Tensor) -> Tensor:
    return QwenImagePipeline._unpack_latents(packed, HEIGHT, WIDTH, 2)[:, :, 0]


FAMILIES = [
    Family(
        "qwen-image", tiny_qwen_image, guided={"guidance_scale": 4.0},
        stock={"true_cfg_scale": 4.0, "negative_prompt": [" "] * 2}, plain={"guidance_scale": 1.0},
        stock_plain={"true_cfg_scale": 1.0}, schedulers=("flow-euler", "flow-unipc"), spatial=spatial,
        size=(WIDTH, HEIGHT), by_row=True, fewest=2,
    )
]  # fmt: skip
