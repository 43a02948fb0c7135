"""Z-Image and Z-Image-Turbo: a single-stream transformer on a flow, Qwen3 as text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.common import fitting, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.families.flow import shifted_sigmas, trimmed
from steer.prompts.prompt import Prompt

TOKENS = 512
"""Room for the prompt in its chat template, in tokens."""
PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"
NATIVE = 1024


class ZImage(Backbone):
    """Backbone of ``ZImagePipeline``.

    ``guidance_scale`` is the pipeline's own, which is one less than elsewhere: ``cond + s·(cond − uncond)``, off at 0.
    The turbo model is made for 8 steps without guidance; a folder of it says so in its ``steer.json``.
    """

    default_steps = 50
    default_guidance = 5.0
    takes_guider = True
    half = torch.bfloat16
    preview = "taef1"  # the autoencoder is that of Flux.1

    def guided(self, guidance_scale: float) -> bool:
        return guidance_scale > 0

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        warn_if_cut(self.pipe.tokenizer, prompt, TOKENS - self._tokens_before)
        return self._encode_text(str(prompt)), None if negative is None else self._encode_text(negative)

    @cached_property
    def _tokens_before(self) -> int:
        """The chat template's tokens before a prompt."""
        messages = [{"role": "user", "content": PLACE}]
        chat = self.pipe.tokenizer.apply_chat_template(messages, tokenize=False)
        return len(self.pipe.tokenizer(chat.partition(PLACE)[0]).input_ids)

    def _encode_text(self, text: str) -> dict[str, Tensor]:
        (embedded,), _ = self.pipe.encode_prompt(text, self.device, False, max_sequence_length=TOKENS)
        return {"text": embedded.unsqueeze(0), "length": torch.tensor([len(embedded)])}

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        factor = self.pipe.vae_scale_factor
        width, height = fitting(width, height, NATIVE, 2 * factor)
        return self.pipe.transformer.in_channels, height // factor, width // factor

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        return shifted_sigmas(steps, shape, {**self.scheduler.config, **config})

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        texts = list(trimmed(conditioning.cond["text"], conditioning.cond["length"]))
        latents = list(x.to(texts[0].dtype).unsqueeze(2))  # one frame
        if conditioning.uncond is not None:
            texts += list(trimmed(conditioning.uncond["text"], conditioning.uncond["length"]))
            latents += latents
        time = (1000 - timestep.expand(len(latents))) / 1000
        velocity = torch.stack(self.denoisers[denoiser](latents, time, texts, return_dict=False)[0]).float().squeeze(2)
        if conditioning.uncond is not None:
            cond, uncond = velocity.chunk(2)
            velocity = self.guide(cond, uncond, conditioning.guidance_scale, timestep)
        return -velocity  # the model's time runs from noise to data, the scheduler's the other way

    def guide(self, cond: Tensor, uncond: Tensor, guidance_scale: float, timestep: Tensor) -> Tensor:
        if self.guider is None:  # the pipeline's scale counts from the conditional output
            return cond + guidance_scale * (cond - uncond)
        return super().guide(cond, uncond, guidance_scale + 1, timestep)
