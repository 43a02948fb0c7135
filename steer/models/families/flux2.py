"""Flux.2, dev and klein: a multimodal transformer on a flow, a language model (Mistral 3, Qwen3) as text encoder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu, format_input
from torch import Tensor

from steer.models.common import fitting, to_image, warn_if_cut
from steer.models.encoded_prompts import Encoded
from steer.models.families.flux import Flux
from steer.prompts.prompt import Prompt

PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"


class Flux2(Flux):
    """Backbone of ``Flux2Pipeline``: ``guidance_scale`` is an input of the model, ``true_cfg_scale`` works besides.

    Latents are ``[N, 128, H/16, W/16]``: the pipeline draws noise for patches of 2×2 of the autoencoder's latents, and
    normalizes each channel of a patch.
    """

    default_steps = 50
    default_guidance = 4.0
    preview = None

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        warn_if_cut(self._tokenizer, prompt, self.text_tokens - self._tokens_before)
        return self._encode_text(str(prompt)), None if negative is None else self._encode_text(negative)

    def _encode_text(self, text: str) -> dict[str, Tensor]:
        embedded, _ = self.pipe.encode_prompt(text, device=self.device, max_sequence_length=self.text_tokens)
        return {"text": embedded}

    @property
    def _tokenizer(self) -> Any:
        return self.pipe.tokenizer.tokenizer  # the tokenizer of a processor that takes images too

    def _chat(self, text: str) -> str:
        """Return the chat that the text encoder reads."""
        (messages,) = format_input([text], system_message=self.pipe.system_message)
        chat: str = self.pipe.tokenizer.apply_chat_template(messages, tokenize=False)
        return chat

    @cached_property
    def _tokens_before(self) -> int:
        """Tokens before a prompt, without those that the tokenizer itself puts around any text."""
        before = self._chat(PLACE).partition(PLACE)[0]
        tokens: list[int] = self._tokenizer(before, add_special_tokens=False).input_ids
        return len(tokens) - int(self._tokenizer.num_special_tokens_to_add())

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        patch = 2 * self.pipe.vae_scale_factor
        width, height = fitting(width, height, self.pipe.default_sample_size * patch // 2, patch)
        return self.pipe.transformer.config.in_channels, height // patch, width // patch

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        patch = 2 * self.pipe.vae_scale_factor
        return shape[-1] * patch, shape[-2] * patch

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        keywords = super().schedule_keywords(steps, shape, config)
        return {**keywords, "mu": compute_empirical_mu(shape[-2] * shape[-1], steps)}

    def _velocity(self, denoiser: str, x: Tensor, timestep: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        text = cond["text"]
        out = self.denoisers[denoiser](
            hidden_states=self.pipe._pack_latents(x.to(text.dtype)),
            timestep=timestep.expand(len(x)) / 1000,
            guidance=cond.get("scale"),
            encoder_hidden_states=text,
            txt_ids=self.pipe._prepare_text_ids(text[:1]).to(x.device),
            img_ids=self.pipe._prepare_latent_ids(x[:1]).to(x.device),
            return_dict=False,
        )[0]
        unpacked: Tensor = out.float().mT.unflatten(2, x.shape[-2:])
        return unpacked

    def decode(self, x: Tensor) -> Tensor:
        vae = self.pipe.vae
        variance, mean = (value.view(1, -1, 1, 1).to(x) for value in (vae.bn.running_var, vae.bn.running_mean))
        latents = self.pipe._unpatchify_latents(x * (variance + vae.config.batch_norm_eps).sqrt() + mean)
        return to_image(vae.decode(latents.to(vae.dtype), return_dict=False)[0])


class Flux2Klein(Flux2):
    """Backbone of ``Flux2KleinPipeline``: ``guidance_scale`` is classifier-free guidance, which the distilled
    checkpoints do without."""

    cfg_setting = "guidance_scale"

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        if pipe.config.is_distilled:
            self.default_steps, self.default_guidance = 4, 1.0

    def guided(self, guidance_scale: float) -> bool:
        return guidance_scale > 1 and not self.pipe.config.is_distilled

    def scale_input(self, guidance_scale: float, embedded_scale: float | None) -> float | None:
        if guidance_scale > 1 and self.pipe.config.is_distilled:
            warnings.warn(
                f"guidance_scale={guidance_scale:g} has no effect: this checkpoint was distilled to do without it",
                stacklevel=2,
            )
        return None

    @property
    def _tokenizer(self) -> Any:
        return self.pipe.tokenizer

    def _chat(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        chat: str = self.pipe.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return chat
