"""Tiny random pipelines, made in memory, with the classes of the big ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from steer import Sampler
from steer.models.options import ModelOptions

WORDS = ["a", "red", "blue", "circle", "square", "and", "photo", "of", "the"]
CLIP_LENGTH = 16


def brightness(samples: Tensor, prompts: Sequence[str]) -> Tensor:
    """Mean of an image's pixels: a plain function as a reward."""
    return samples.mean(dim=(1, 2, 3))


def byte_pairs(words: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return a CLIP vocabulary and merges that make one token of each word, and spell all others out."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in words:
        left, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for piece in rest:
            merges.append((left, piece))
            left += piece
            tokens.append(left)
    unique = dict.fromkeys(tokens)
    return {token: i for i, token in enumerate(unique)}, list(dict.fromkeys(merges))


def clip_tokenizer(length: int = CLIP_LENGTH) -> CLIPTokenizer:
    """Return a CLIP tokenizer that knows a few words and spells the rest."""
    vocabulary, merges = byte_pairs(WORDS)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def clip_text(projection: int | None = None, hidden: int = 32) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Return a random CLIP text encoder, with a projection if its width is given. Seed torch before."""
    config = CLIPTextConfig(
        vocab_size=len(byte_pairs(WORDS)[0]), hidden_size=hidden, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=CLIP_LENGTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        projection_dim=projection or hidden,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tiny_vae(channels: int, **config: float) -> AutoencoderKL:
    """Return a random KL autoencoder of two levels: 16×16 images from 8×8 latents. Seed torch before."""
    return AutoencoderKL(
        block_out_channels=(16, 32), latent_channels=channels, norm_num_groups=8, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **config,
    )  # fmt: skip


def tiny_sd(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """Return a Stable Diffusion pipeline of 8×8 latents and 16×16 images; the same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            norm_num_groups=8,
            attention_head_dim=8,
        )
        vae, text_encoder = tiny_vae(4), clip_text()
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction_type,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(model: Any, **options: Any) -> Tensor:
    """Return the image of a model of 8×8 latents, loaded with options, from always the same noise."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sampler = Sampler(model, device="cpu", model_options=ModelOptions(**options))
    return sampler.sample(noise, "a red circle", steps=2, seed=1)
