"""Stable Diffusion 1.x and 2.x: a UNet over the latents of a KL autoencoder, one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.common import fitting, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.families.clip_text import encode_texts
from steer.models.families.flow import trimmed
from steer.prompts.prompt import Prompt


class StableDiffusion(Backbone):
    """Backbone of ``StableDiffusionPipeline``; the scheduler decides between ε- and v-prediction."""

    default_steps = 50
    default_guidance = 7.5
    preview = "taesd"
    weighs_text = takes_guider = True

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe, pipe.unet)

    def guided(self, guidance_scale: float) -> bool:
        # a UNet with time_cond_proj_dim was distilled to take the scale as an input
        return guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        warn_if_cut(self.pipe.tokenizer, prompt, self.pipe.tokenizer.model_max_length)
        cond, uncond = self.pipe.encode_prompt(
            str(prompt), self.device, 1, negative is not None, negative_prompt=negative
        )
        return {"text": cond}, None if negative is None else {"text": uncond}

    def encode_weighted(self, prompt: Prompt, written: str, negative: str | None) -> Encoded:
        cond, *uncond = self._texts_with_weights([written] if negative is None else [written, negative])
        sides = [{"text": text, "length": torch.tensor([text.shape[1]])} for text, _ in (cond, *uncond)]
        return sides[0], sides[1] if uncond else None

    def _texts_with_weights(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        def forward(ids: Tensor) -> tuple[Tensor, Tensor]:
            return tuple(self.pipe.text_encoder(ids, return_dict=False)[:2])

        return encode_texts(texts, [(self.pipe.tokenizer, forward)], self.pipe.maybe_convert_prompt, self.device)

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        config = self.pipe.unet.config
        factor = self.pipe.vae_scale_factor
        native = config.sample_size
        native_height, native_width = (native, native) if isinstance(native, int) else native
        # the UNet pads the remainders of its downsamplings
        width, height = fitting(width or native_width * factor, height or native_height * factor, 0, factor)
        return config.in_channels, height // factor, width // factor

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        unet: Any = self.denoisers[denoiser]
        text = conditioning.batched("text")
        if conditioning.ragged:
            text = trimmed(text, conditioning.cond["length"])
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
            out = self.guide(cond, uncond, conditioning.guidance_scale, timestep)
        prediction: Tensor = out.float()
        return prediction

    def _denoiser_keywords(self, x: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return the UNet's arguments besides latents, timestep and text, one row for each of ``x``."""
        return {}
