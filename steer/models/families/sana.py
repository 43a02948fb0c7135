"""Sana and SANA-Sprint: linear-attention transformers on the latents of a deep-compression autoencoder; Gemma 2 texts.

Stock ``SanaPipeline`` repeats text masks in another order than texts when several prompts get several images each.
Here every row carries its own mask, so that it equals the stock call with one image per prompt.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import SanaPipeline
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.common import fitting, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.processes import Process
from steer.prompts.prompt import Prompt

TEXT_TOKENS = 300
"""Tokens of the user's text, and one that begins it, that the transformer sees."""
INSTRUCTION: list[str] = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
"""The pipeline's prefix of a prompt, but not of a negative one (arXiv 2410.10629, sec. 2.4)."""


SPRINT_START, SPRINT_MIDDLE = 1.57080, 1.3
"""The first angle of SANA-Sprint's schedule, and the second of two steps: the defaults of its pipeline, found by the
authors' search (arXiv 2503.09641)."""


class Sana(Backbone):
    """Backbone of ``SanaPipeline``. The image has the requested size, without ``use_resolution_binning``."""

    default_steps = 20
    default_guidance = 4.5
    takes_guider = True
    half = torch.bfloat16

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        for name in ("text_encoder", "vae"):
            if getattr(pipe, name).dtype == torch.float16:
                warnings.warn(
                    f"Sana's {name} overflows in float16; give it another precision: pipe.{name}.to(torch.bfloat16)",
                    stacklevel=2,
                )

    @classmethod
    def precision(cls, dtype: torch.dtype) -> torch.dtype | dict[str, torch.dtype]:
        # Gemma 2 and the autoencoder leave the range of float16
        return {"transformer": dtype, "default": torch.bfloat16} if dtype == torch.float16 else dtype

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        (text,) = self.pipe._text_preprocessing(str(prompt))
        warn_if_cut(self.pipe.tokenizer, text, TEXT_TOKENS)
        cond, mask, uncond, unmask = self.pipe.encode_prompt(
            str(prompt),
            negative is not None,
            negative_prompt=negative,
            num_images_per_prompt=1,
            device=self.device,
            max_sequence_length=TEXT_TOKENS,
            complex_human_instruction=INSTRUCTION,
        )
        return {"text": cond, "mask": mask}, None if negative is None else {"text": uncond, "mask": unmask}

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        config, factor = self.pipe.transformer.config, self.pipe.vae_scale_factor
        width, height = fitting(width, height, config.sample_size * factor, factor * config.patch_size)
        return config.in_channels, height // factor, width // factor

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        text, mask = conditioning.batched("text"), conditioning.batched("mask")
        config, dtype = self.pipe.transformer.config, self.pipe.transformer.dtype
        if conditioning.guided:
            x = torch.cat([x, x])
        out: Tensor = self.denoisers[denoiser](
            x.to(dtype),
            encoder_hidden_states=text.to(dtype),
            encoder_attention_mask=mask,
            timestep=timestep.expand(len(x)) * config.timestep_scale,
            return_dict=False,
        )[0].float()
        if config.out_channels // 2 == config.in_channels:  # the second half is a learned variance
            out = out.chunk(2, dim=1)[0]
        if conditioning.guided:
            uncond, cond = out.chunk(2)
            out = self.guide(cond, uncond, conditioning.guidance_scale, timestep)
        return out


class SanaSprint(Sana):
    """Backbone of ``SanaSprintPipeline``: one to four steps of a consistency model that takes ``guidance_scale`` as an
    input (arXiv 2503.09641). Latents are in units of the scheduler's ``sigma_data``."""

    default_steps = 2
    cfg_setting = "true_cfg_scale"
    takes_guider = False

    def guided(self, guidance_scale: float) -> bool:
        return False

    def scale_input(self, guidance_scale: float, embedded_scale: float | None) -> float | None:
        if guidance_scale > 1:
            raise SteerError(f"true_cfg_scale={guidance_scale:g}: SANA-Sprint has no classifier-free guidance; drop it")
        return self.default_guidance if embedded_scale is None else embedded_scale

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        (text,) = self.pipe._text_preprocessing(str(prompt))
        warn_if_cut(self.pipe.tokenizer, text, TEXT_TOKENS)
        cond, mask = self.pipe.encode_prompt(
            str(prompt),
            num_images_per_prompt=1,
            device=self.device,
            max_sequence_length=TEXT_TOKENS,
            complex_human_instruction=INSTRUCTION,
        )
        return {"text": cond, "mask": mask}, None

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Process:
        if settings["timesteps"] is not None:
            raise SteerError("timesteps: the angles of SANA-Sprint's schedule follow from its steps; leave them out")
        return super().process(settings, shape)

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        return {"max_timesteps": SPRINT_START, "intermediate_timesteps": SPRINT_MIDDLE if steps == 2 else None}

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        config, dtype = self.pipe.transformer.config, self.pipe.transformer.dtype
        sigma_data, text = self.scheduler.config.sigma_data, conditioning.cond["text"]
        angle = timestep.to(x.device).expand(len(x))
        # the network is a flow's, whose time and inputs follow from the angle (sec. 3.1)
        time = torch.sin(angle) / (torch.cos(angle) + torch.sin(angle))
        wide = time.view(-1, 1, 1, 1)
        norm = torch.sqrt(wide**2 + (1 - wide) ** 2)
        latents = x / sigma_data * norm
        out = self.denoisers[denoiser](
            latents.to(dtype),
            encoder_hidden_states=text.to(dtype),
            encoder_attention_mask=conditioning.cond["mask"],
            guidance=conditioning.cond["scale"].to(text.dtype) * config.guidance_embeds_scale,
            timestep=time,
            return_dict=False,
        )[0]
        velocity: Tensor = (((1 - 2 * wide) * latents + (1 - 2 * wide + 2 * wide**2) * out) / norm).float() * sigma_data
        return velocity

    def decode(self, x: Tensor) -> Any:
        return super().decode(x / self.scheduler.config.sigma_data)
