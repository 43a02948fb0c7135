"""Z-Image and Z-Image-Turbo."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from support.families import Family, inference
from support.families.qwen_texts import qwen_tokenizer
from support.tiny import tiny_vae


def tiny_z_image(**scheduler: object) -> ZImagePipeline:
    """Return Z-Image at 4 latent channels."""
    tokenizer = qwen_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = ZImageTransformer2DModel(
            in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
            axes_dims=[8, 4, 4], axes_lens=[1024, 64, 64],
        )  # fmt: skip
        # pad tokens are zeros in a fresh model; a real one's say something
        for token in (transformer.x_pad_token, transformer.cap_pad_token):
            torch.nn.init.normal_(token)
        vae = tiny_vae(4, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False)
        encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, head_dim=8,
            )
        )  # fmt: skip
        flow = FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler})
    return inference(
        ZImagePipeline(transformer=transformer, vae=vae, text_encoder=encoder, tokenizer=tokenizer, scheduler=flow)
    )


FAMILIES = [
    Family(
        "z-image", tiny_z_image, guided={"guidance_scale": 3.0}, stock={"guidance_scale": 3.0},
        plain={"guidance_scale": 0.0}, stock_plain={"guidance_scale": 0.0},
        schedulers=("flow-euler",), size=(24, 16),
    )
]  # fmt: skip
