"""Stable Diffusion 3 and 3.5: a multimodal transformer on a flow, two CLIP text encoders and T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.common import fitting, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.families.flow import dynamic_shift
from steer.prompts.prompt import Prompt

T5_TOKENS = 256
"""T5's room for a text in the pipeline, in tokens."""


class StableDiffusion3(Backbone):
    """Backbone of ``StableDiffusion3Pipeline``; works without T5 as well, as the pipeline does."""

    default_steps = 28
    default_guidance = 7.0
    takes_guider = True
    preview = "taesd3"
    optional = Backbone.optional | {"text_encoder_3", "tokenizer_3"}

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        if self.pipe.text_encoder_3 is not None:
            warn_if_cut(self.pipe.tokenizer_3, prompt, T5_TOKENS)
        text, untext, pooled, unpooled = self.pipe.encode_prompt(
            str(prompt),
            None,
            None,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=negative is not None,
            negative_prompt=negative,
            max_sequence_length=T5_TOKENS,
        )
        cond = {"text": text, "pooled": pooled}
        return cond, None if negative is None else {"text": untext, "pooled": unpooled}

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        factor = self.pipe.vae_scale_factor
        width, height = fitting(width, height, self.pipe.default_sample_size * factor, factor * self.pipe.patch_size)
        return self.pipe.transformer.config.in_channels, height // factor, width // factor

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        own = self.scheduler.config
        if not own.get("use_dynamic_shifting"):
            return {}
        patch = self.pipe.transformer.config.patch_size
        tokens = (shape[-2] // patch) * (shape[-1] // patch)
        return {"mu": dynamic_shift(own, tokens, max_shift=1.16)}

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        text = conditioning.batched("text")
        if conditioning.guided:
            x = torch.cat([x, x])
        out = self.denoisers[denoiser](
            hidden_states=x.to(text.dtype),
            timestep=timestep.expand(len(x)),
            encoder_hidden_states=text,
            pooled_projections=conditioning.batched("pooled"),
            return_dict=False,
        )[0]
        if conditioning.guided:
            uncond, cond = out.chunk(2)
            out = self.guide(cond, uncond, conditioning.guidance_scale, timestep)
        prediction: Tensor = out.float()
        return prediction
