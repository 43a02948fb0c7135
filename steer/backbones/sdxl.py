"""Stable Diffusion XL: two CLIP text encoders, a pooled text embedding and the image's size as conditioning."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from steer.backbones.base import Conditioning
from steer.backbones.sd import ENCODED_KEPT, StableDiffusion
from steer.prompts import Prompt


class StableDiffusionXL(StableDiffusion):
    """Backbone of ``StableDiffusionXLPipeline``: base, turbo and fine-tunes."""

    default_steps = 50
    default_guidance = 5.0

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self._encoded_xl: dict[tuple[str, str | None], tuple[Tensor, Tensor | None, Tensor, Tensor | None]] = {}

    def encode(self, prompts: Sequence[Prompt], negative: Sequence[str], guidance_scale: float) -> Conditioning:
        guided = self.guided(guidance_scale)
        encoded = [
            self._encode_xl(str(prompt), negated if guided else None)
            for prompt, negated in zip(prompts, negative, strict=True)
        ]
        text, untext, pooled, unpooled = zip(*encoded, strict=True)
        cond = {"text": torch.cat(text), "pooled": torch.cat(pooled)}
        uncond = {"text": torch.cat(untext), "pooled": torch.cat(unpooled)} if guided else None
        return Conditioning(cond, uncond, guidance_scale)

    def decode(self, x: Tensor) -> Tensor:
        vae = self._decoder
        x = x.to(vae.dtype)
        mean, std = (getattr(vae.config, f"latents_{name}", None) for name in ("mean", "std"))
        if mean is not None and std is not None:
            mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(x) for values in (mean, std))
            x = x * std / vae.config.scaling_factor + mean
        else:
            x = x / vae.config.scaling_factor
        image: Tensor = vae.decode(x, return_dict=False)[0]
        return (image.float() / 2 + 0.5).clamp(0, 1)

    def _denoiser_keywords(self, x: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        pooled = conditioning.batched("pooled")
        height, width = (side * self.pipe.vae_scale_factor for side in x.shape[-2:])
        # original size, top-left of the crop, target size: an uncropped image of the size that is made
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=pooled.dtype, device=pooled.device)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}}

    def _encode_xl(self, prompt: str, negative: str | None) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        key = (prompt, negative)
        if key not in self._encoded_xl:
            if len(self._encoded_xl) >= ENCODED_KEPT:
                self._encoded_xl.pop(next(iter(self._encoded_xl)))
            self._warn_if_cut(prompt)
            # no negative prompt is not an empty one: the base model was trained with zeros for it
            self._encoded_xl[key] = self.pipe.encode_prompt(
                prompt,
                device=self.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=negative is not None,
                negative_prompt=negative or None,
            )
        return self._encoded_xl[key]

    @cached_property
    def _decoder(self) -> Any:
        """The VAE; in fp32 where its fp16 activations overflow. A copy, for the pipeline's own stays as it is."""
        vae = self.pipe.vae
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            return copy.deepcopy(vae).float()
        return vae
