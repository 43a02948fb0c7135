"""Tiny random pipelines with encoders of pictures and of several texts: Qwen-Image-Edit, HiDream, an IP-Adapter."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from support.families import inference
from support.families.qwen_image import tiny_qwen_image
from support.families.qwen_texts import qwen_tokenizer
from support.families.texts import gemma_tokenizer, t5_text, t5_tokenizer
from support.tiny import clip_text, clip_tokenizer, tiny_sd, tiny_vae

PICTURE = ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>")


def tiny_qwen_image_edit() -> Any:
    """Return Qwen-Image-Edit, which scales its picture to a megapixel: the autoencoder makes 32×32 latents of that."""
    parts = tiny_qwen_image().components
    tokenizer = qwen_tokenizer()
    tokenizer.add_tokens(list(PICTURE), special_tokens=True)
    start, image, video, end = map(tokenizer.convert_tokens_to_ids, PICTURE)
    config = parts["text_encoder"].config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        encoder = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config={**config.text_config.to_dict(), "vocab_size": len(tokenizer)},
                vision_config=config.vision_config.to_dict(), image_token_id=image, video_token_id=video,
                vision_start_token_id=start, vision_end_token_id=end,
            )
        )  # fmt: skip
        vae = diffusers.AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1] * 6, num_res_blocks=0, temperal_downsample=[False] * 5,
            latents_mean=[0.0] * 4, latents_std=[20.0] * 4,
        )  # fmt: skip
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56), tokenizer, Qwen2VLVideoProcessor()
    )
    return inference(
        diffusers.QwenImageEditPipeline(
            scheduler=parts["scheduler"], vae=vae, text_encoder=encoder, tokenizer=tokenizer, processor=processor,
            transformer=parts["transformer"],
        )
    )  # fmt: skip


def tiny_hidream() -> Any:
    """Return HiDream at 8×8 latents, with its four text encoders."""
    tokenizer = gemma_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=4,
            )
        )  # fmt: skip
        llama.set_attn_implementation("eager")  # the pipeline asks for the attentions
        transformer = diffusers.HiDreamImageTransformer2DModel(
            patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=4, caption_channels=[32, 16], text_emb_dim=64, num_routed_experts=2,
            num_activated_experts=1, axes_dims_rope=(4, 2, 2), max_resolution=(8, 8), llama_layers=(0, 1),
        )  # fmt: skip
        pipe = diffusers.HiDreamImagePipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=tiny_vae(4, shift_factor=0.1),
            text_encoder=clip_text(projection=32), tokenizer=clip_tokenizer(), text_encoder_2=clip_text(projection=32),
            tokenizer_2=clip_tokenizer(), text_encoder_3=t5_text(), tokenizer_3=t5_tokenizer(), text_encoder_4=llama,
            tokenizer_4=tokenizer, transformer=transformer,
        )  # fmt: skip
    pipe.default_sample_size = 8  # its call scales every size to this area
    return inference(pipe)


def tiny_sd_with_adapter() -> Any:
    """Return Stable Diffusion with an IP-Adapter of four tokens."""
    pipe = tiny_sd()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
            patch_size=16, projection_dim=16,
        )  # fmt: skip
        pipe.register_modules(
            image_encoder=CLIPVisionModelWithProjection(config),
            feature_extractor=CLIPImageProcessor(size=32, crop_size=32),
        )
        width = pipe.unet.config.cross_attention_dim
        layers = {}
        # as in the adapter's file: self-attentions are counted too
        for number, name in enumerate(pipe.unet.attn_processors):
            if name.endswith("attn2.processor"):
                module = pipe.unet.get_submodule(name.removesuffix(".processor"))
                for side in ("k", "v"):
                    layers[f"{number}.to_{side}_ip.weight"] = 0.3 * torch.randn(module.inner_dim, width)
        projection = {
            "proj.weight": torch.randn(4 * width, 16), "proj.bias": torch.zeros(4 * width),
            "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width),
        }  # fmt: skip
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": layers}])
    return inference(pipe)
