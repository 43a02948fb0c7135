"""Stable Diffusion 1.x and 2.x: a UNet over the latents of a KL autoencoder, one CLIP text encoder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steer.backbones.base import Backbone, Conditioning, check_size
from steer.prompts import Prompt

ENCODED_KEPT = 256
"""Prompts whose encodings are kept; a population's own are held by its conditioning."""


class StableDiffusion(Backbone):
    """Backbone of ``StableDiffusionPipeline``; ε- or v-prediction is the scheduler's affair."""

    default_steps = 50
    default_guidance = 7.5

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe, pipe.unet)
        self._encoded: dict[tuple[str, str | None], tuple[Tensor, Tensor | None]] = {}

    def guided(self, guidance_scale: float) -> bool:
        # a UNet with time_cond_proj_dim was distilled to take the scale as an input
        return guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None

    def encode(self, prompts: Sequence[Prompt], negative: Sequence[str], guidance_scale: float) -> Conditioning:
        guided = self.guided(guidance_scale)
        pairs = [
            self._encode_one(str(prompt), negated if guided else None)
            for prompt, negated in zip(prompts, negative, strict=True)
        ]
        cond = {"text": torch.cat([cond for cond, _ in pairs])}
        uncond = {"text": torch.cat([u for _, u in pairs if u is not None])} if guided else None
        return Conditioning(cond, uncond, guidance_scale)

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        config = self.pipe.unet.config
        factor = self.pipe.vae_scale_factor
        native = config.sample_size
        native_height, native_width = (native, native) if isinstance(native, int) else native
        width = native_width * factor if width is None else width
        height = native_height * factor if height is None else height
        check_size(width, height, factor * 2 ** (len(config.block_out_channels) - 1))
        return config.in_channels, height // factor, width // factor

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        unet: Any = self.denoisers[denoiser]
        text = conditioning.batched("text")
        if conditioning.guided:
            x = torch.cat([x, x])
        keywords = self._denoiser_keywords(x, conditioning)
        if unet.config.time_cond_proj_dim is not None:
            scale = torch.full((len(x),), conditioning.guidance_scale - 1)
            embedded = self.pipe.get_guidance_scale_embedding(scale, embedding_dim=unet.config.time_cond_proj_dim)
            keywords["timestep_cond"] = embedded.to(x.device, text.dtype)
        out = unet(x.to(text.dtype), timestep, encoder_hidden_states=text, return_dict=False, **keywords)[0]
        if conditioning.guided:
            uncond, cond = out.chunk(2)
            out = uncond + conditioning.guidance_scale * (cond - uncond)
        prediction: Tensor = out.float()
        return prediction

    def decode(self, x: Tensor) -> Tensor:
        vae = self.pipe.vae
        image: Tensor = vae.decode(x.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return (image.float() / 2 + 0.5).clamp(0, 1)

    def _denoiser_keywords(self, x: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return what the UNet takes besides latents, timestep and text, one row for each of ``x``."""
        return {}

    def _encode_one(self, prompt: str, negative: str | None) -> tuple[Tensor, Tensor | None]:
        key = (prompt, negative)
        if key not in self._encoded:
            if len(self._encoded) >= ENCODED_KEPT:
                self._encoded.pop(next(iter(self._encoded)))
            self._warn_if_cut(prompt)
            cond, uncond = self.pipe.encode_prompt(
                prompt, self.device, 1, negative is not None, negative_prompt=negative
            )
            self._encoded[key] = (cond, uncond if negative is not None else None)
        return self._encoded[key]

    def _warn_if_cut(self, prompt: str) -> None:
        tokenizer = self.pipe.tokenizer
        limit = tokenizer.model_max_length
        ids = tokenizer(prompt, truncation=False).input_ids
        if len(ids) > limit:
            cut = tokenizer.decode(ids[limit - 1 : -1], skip_special_tokens=True)
            warnings.warn(
                f"prompt {prompt[:40]!r}… has {len(ids) - 2} tokens, the text encoder takes {limit - 2}; "
                f"cut off: {cut!r}",
                stacklevel=2,
            )
