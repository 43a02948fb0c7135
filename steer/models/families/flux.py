"""Flux.1, dev and schnell: a multimodal transformer on a flow, CLIP and T5 as text encoders."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.common import fitting, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.families.flow import shifted_sigmas
from steer.prompts.prompt import Prompt


class Flux(Backbone):
    """Backbone of ``FluxPipeline``.

    dev was distilled to take ``guidance_scale`` as an input, schnell to do without; ``true_cfg_scale`` is
    classifier-free guidance on top of that, in both.
    """

    default_steps = 28
    default_guidance = 3.5
    takes_guider = True
    cfg_setting = "true_cfg_scale"
    half = torch.bfloat16
    preview: ClassVar[str | None] = "taef1"
    text_tokens: ClassVar[int] = 512
    """Room for a text in the pipeline, in tokens."""

    def scale_input(self, guidance_scale: float, embedded_scale: float | None) -> float | None:
        scale = self.default_guidance if embedded_scale is None else embedded_scale
        if self.pipe.transformer.config.guidance_embeds:
            return scale
        if scale not in (0, self.default_guidance):
            warnings.warn(
                f"guidance_scale={scale:g} has no effect: this model does not take it as an input; for "
                "classifier-free guidance give --true-cfg",
                stacklevel=2,
            )
        return None

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        warn_if_cut(self.pipe.tokenizer_2, prompt, self.text_tokens)
        return self._encode_text(str(prompt)), None if negative is None else self._encode_text(negative)

    def _encode_text(self, text: str) -> dict[str, Tensor]:
        embedded, pooled, _ = self.pipe.encode_prompt(text, device=self.device, max_sequence_length=self.text_tokens)
        return {"text": embedded, "pooled": pooled}

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        factor = self.pipe.vae_scale_factor
        # the transformer's tokens are patches of 2×2 latents
        width, height = fitting(width, height, self.pipe.default_sample_size * factor, 2 * factor)
        return self.pipe.transformer.config.in_channels // 4, height // factor, width // factor

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        keywords = shifted_sigmas(steps, shape, {**self.scheduler.config, **config})
        if config.get("use_flow_sigmas"):  # the scheduler spaces them itself
            del keywords["sigmas"]
        return keywords

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        out = self._velocity(denoiser, x, timestep, conditioning.cond)
        if conditioning.uncond is not None:  # a separate forward, as in the pipeline, takes half the memory
            uncond = self._velocity(denoiser, x, timestep, conditioning.uncond)
            out = self.guide(out, uncond, conditioning.guidance_scale, timestep)
        return out

    def _velocity(self, denoiser: str, x: Tensor, timestep: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        text, (height, width) = cond["text"], x.shape[-2:]
        out = self.denoisers[denoiser](
            hidden_states=self.pipe._pack_latents(x.to(text.dtype), *x.shape),
            timestep=timestep.expand(len(x)) / 1000,
            guidance=cond.get("scale"),
            pooled_projections=cond["pooled"],
            encoder_hidden_states=text,
            txt_ids=x.new_zeros(text.shape[1], 3),
            img_ids=self.pipe._prepare_latent_image_ids(1, height // 2, width // 2, x.device, x.dtype),
            return_dict=False,
        )[0]
        unpacked: Tensor = self.pipe._unpack_latents(out.float(), height, width, 1)
        return unpacked
