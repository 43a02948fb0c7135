"""Tiny random pipelines that make videos, put together as diffusers' own tests do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from support.any_pipelines import Kind, of, photo
from support.families import inference
from support.families.texts import T5_LENGTH, t5_text, t5_tokenizer
from support.tiny import tiny_sd

SMALL = {"width": 16, "height": 16}


def seeded(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return a maker whose weights are the same each time, whoever drew before."""

    def made() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return inference(make())

    return made


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def wan_transformer(channels: int = 16) -> Any:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=16,
        text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip


@seeded
def tiny_wan() -> Any:
    return diffusers.WanPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_text(), transformer=wan_transformer(), vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


@seeded
def tiny_wan_of_two() -> Any:
    """Wan 2.2: one transformer for the first steps, another one for the last."""
    return diffusers.WanPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_text(), transformer=wan_transformer(),
        transformer_2=wan_transformer(), boundary_ratio=0.875, vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )  # fmt: skip


@seeded
def tiny_wan_from_image() -> Any:
    """Wan 2.2's image to video, without an image encoder."""
    return diffusers.WanImageToVideoPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_text(), transformer=wan_transformer(36), vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        image_encoder=None, image_processor=None,
    )  # fmt: skip


@seeded
def tiny_ltx() -> Any:
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=32, num_layers=1, caption_channels=32,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1), spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, timestep_conditioning=False, patch_size=1,
        patch_size_t=1, encoder_causal=True, decoder_causal=False,
    )  # fmt: skip
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return diffusers.LTXPipeline(
        transformer=transformer, vae=vae, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=t5_text(), tokenizer=t5_tokenizer(),
    )  # fmt: skip


@seeded
def tiny_cogvideox() -> Any:
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=2,
        text_embed_dim=32, num_layers=1, sample_width=2, sample_height=2, sample_frames=9, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=T5_LENGTH,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), latent_channels=4,
        layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
    )  # fmt: skip
    return diffusers.CogVideoXPipeline(
        transformer=transformer, vae=vae, scheduler=diffusers.CogVideoXDDIMScheduler(), text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
    )  # fmt: skip


@seeded
def tiny_animatediff() -> Any:
    parts = tiny_sd().components
    adapter = diffusers.MotionAdapter(
        block_out_channels=parts["unet"].config.block_out_channels, motion_layers_per_block=1, motion_norm_num_groups=4,
        motion_num_attention_heads=2, motion_mid_block_layers_per_block=1,
    )  # fmt: skip
    return diffusers.AnimateDiffPipeline(
        vae=parts["vae"], text_encoder=parts["text_encoder"], tokenizer=parts["tokenizer"], unet=parts["unet"],
        motion_adapter=adapter, scheduler=parts["scheduler"],
    )  # fmt: skip


@seeded
def tiny_latte() -> Any:
    transformer = diffusers.LatteTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, cross_attention_dim=16, num_embeds_ada_norm=1000, norm_type="ada_norm_single",
        norm_elementwise_affine=False, attention_bias=True, caption_channels=32, video_length=4,
    )  # fmt: skip
    parts = tiny_sd().components
    return diffusers.LattePipeline(
        tokenizer=t5_tokenizer(120), text_encoder=t5_text(), vae=parts["vae"], transformer=transformer,
        scheduler=parts["scheduler"],
    )  # fmt: skip


def video_kinds() -> list[Kind]:
    """Return a kind of each."""
    short = {"num_frames": 9, "max_sequence_length": T5_LENGTH}
    text = "text to video"
    size = {"settings": SMALL, "stock": SMALL}
    large = {"width": 32, "height": 32}
    return [
        Kind("WanPipeline", tiny_wan, short, task=text, **size),
        Kind("WanPipeline", tiny_wan_of_two, short, task="text to video, two denoisers",
             noisy={"scheduler": "flow-euler", "eta": 1.0}, **size),
        Kind("WanImageToVideoPipeline", tiny_wan_from_image, {**short, "image": photo()}, task="image to video",
             populations=6, **size),
        Kind("WanVideoToVideoPipeline", of("WanVideoToVideoPipeline", tiny_wan),
             {"video": [photo(16, 10 * n) for n in range(5)], "strength": 0.8, "max_sequence_length": T5_LENGTH},
             task="video to video", rows=1, populations=4, **size),
        Kind("LTXPipeline", tiny_ltx, short, task=text, settings=large, stock=large),
        Kind("CogVideoXPipeline", tiny_cogvideox, short, task=text, rows=1, populations=4, **size),
        Kind("AnimateDiffPipeline", tiny_animatediff, {"num_frames": 4}, task=text, rows=1, populations=4),
    ]  # fmt: skip
