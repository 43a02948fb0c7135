"""PixArt-α and PixArt-Σ: a diffusion transformer over the latents of a KL autoencoder, texts by T5."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers.utils import is_bs4_available, is_ftfy_available
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.common import fitting, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.prompts.prompt import Prompt

MICRO_CONDITIONED = 128
"""Latents' side of the checkpoints of PixArt-α that take the image's size and shape as input: those for 1024 px."""


class PixArtAlpha(Backbone):
    """Backbone of ``PixArtAlphaPipeline``.

    Captions are cleaned as the pipeline's call does it: thoroughly if beautifulsoup4 and ftfy are installed, else
    only put into lower case. The image has the requested size; the pipeline's ``use_resolution_binning``, which makes
    one of a trained size and resizes it, is off.
    """

    default_steps = 20
    default_guidance = 4.5
    takes_guider = True
    preview = "taesd"
    text_tokens: ClassVar[int] = 120
    """T5's room for a text in the pipeline's call, in tokens."""

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        clean = is_bs4_available() and is_ftfy_available()
        (text,) = self.pipe._text_preprocessing(str(prompt), clean_caption=clean)
        warn_if_cut(self.pipe.tokenizer, text, self.text_tokens)
        cond, mask, uncond, unmask = self.pipe.encode_prompt(
            str(prompt),
            negative is not None,
            negative_prompt=negative,
            num_images_per_prompt=1,
            device=self.device,
            clean_caption=clean,
            max_sequence_length=self.text_tokens,
        )
        return {"text": cond, "mask": mask}, None if negative is None else {"text": uncond, "mask": unmask}

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        config, factor = self.pipe.transformer.config, self.pipe.vae_scale_factor
        width, height = fitting(width, height, config.sample_size * factor, factor * config.patch_size)
        return config.in_channels, height // factor, width // factor

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        text, mask = conditioning.batched("text"), conditioning.batched("mask")
        if conditioning.guided:
            x = torch.cat([x, x])
        out = self.denoisers[denoiser](
            x.to(text.dtype),
            timestep=timestep.expand(len(x)),
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            added_cond_kwargs=self._micro_conditions(x, text.dtype),
            return_dict=False,
        )[0]
        config = self.pipe.transformer.config
        if config.out_channels // 2 == config.in_channels:  # the second half is a learned variance
            out = out.chunk(2, dim=1)[0]
        if conditioning.guided:
            uncond, cond = out.chunk(2)
            out = self.guide(cond, uncond, conditioning.guidance_scale, timestep)
        prediction: Tensor = out.float()
        return prediction

    def _micro_conditions(self, x: Tensor, dtype: torch.dtype) -> dict[str, Tensor | None]:
        """Return height and width in pixels ``[B, 2]`` and height/width ``[B, 1]``, if the model takes them."""
        if self.pipe.transformer.config.sample_size != MICRO_CONDITIONED:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (side * self.pipe.vae_scale_factor for side in x.shape[-2:])
        resolution = torch.tensor([[height, width]], dtype=dtype, device=x.device)
        aspect_ratio = torch.tensor([[height / width]], dtype=dtype, device=x.device)
        return {"resolution": resolution.repeat(len(x), 1), "aspect_ratio": aspect_ratio.repeat(len(x), 1)}


class PixArtSigma(PixArtAlpha):
    """Backbone of ``PixArtSigmaPipeline``: longer texts, no micro-conditions, and the autoencoder of SDXL."""

    text_tokens = 300
    preview = "taesdxl"

    @property
    def autoencoder(self) -> Any:
        return self.safe_vae

    def _micro_conditions(self, x: Tensor, dtype: torch.dtype) -> dict[str, Tensor | None]:
        return {"resolution": None, "aspect_ratio": None}
