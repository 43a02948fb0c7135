"""PixArt-α without and with micro-conditions, and PixArt-Σ."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel

from support.families import Family, inference
from support.families.sd import VP
from support.families.texts import t5_text, t5_tokenizer
from support.tiny import tiny_vae


def tiny_pixart(pipeline: Any, sample_size: int = 8, **transformer: Any) -> Any:
    """Return a PixArt pipeline that predicts a variance along with the noise, as the published ones do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = PixArtTransformer2DModel(
            sample_size=sample_size, num_attention_heads=3, attention_head_dim=8, num_layers=2, cross_attention_dim=24,
            caption_channels=32, in_channels=4, out_channels=8, **transformer,
        )  # fmt: skip
        parts = {"vae": tiny_vae(4), "text_encoder": t5_text(32)}
    scheduler = DPMSolverMultistepScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
    return inference(pipeline(tokenizer=t5_tokenizer(), transformer=denoiser, scheduler=scheduler, **parts))


def tiny_alpha() -> PixArtAlphaPipeline:
    """Return PixArt-α of 16 px, which like that of 512 px takes nothing but a text."""
    return tiny_pixart(PixArtAlphaPipeline)


def tiny_alpha_128() -> PixArtAlphaPipeline:
    """Return PixArt-α of 128×128 latents, which like that of 1024 px takes the image's size and shape."""
    return tiny_pixart(PixArtAlphaPipeline, 128)


def tiny_sigma() -> PixArtSigmaPipeline:
    """Return PixArt-Σ, of 128×128 latents and no micro-conditions."""
    return tiny_pixart(PixArtSigmaPipeline, 128, use_additional_conditions=False)


EXACT = {"use_resolution_binning": False}
CFG = {"guided": {"guidance_scale": 4.5}, "stock": {"guidance_scale": 4.5, **EXACT}}
OFF = {"plain": {"guidance_scale": 1.0}, "stock_plain": {"guidance_scale": 1.0, **EXACT}}
TEXTS = ("A red circle", "a BLUE square and a circle ")
OTHERS = tuple(name for name in VP if name != "dpm++")  # their own
STOCHASTIC = {"scheduler": "ddim", "eta": 1.0}

FAMILIES = [
    Family("pixart-alpha", tiny_alpha, **CFG, **OFF, schedulers=OTHERS, stochastic=STOCHASTIC, texts=TEXTS),
    Family("pixart-alpha-sized", tiny_alpha_128, **CFG, **OFF, stochastic=STOCHASTIC, texts=TEXTS, size=(24, 16)),
    Family("pixart-sigma", tiny_sigma, **CFG, **OFF, schedulers=("ddim", "unipc"), stochastic=STOCHASTIC, texts=TEXTS,
           size=(24, 16)),
]  # fmt: skip
