"""Qwen-Image: a double-stream transformer on a flow, Qwen2.5-VL as text encoder, a video autoencoder.

Stock ``QwenImagePipeline`` repeats text masks in another order than texts when several prompts get several images each.
Here no forward holds two prompts, so there is no padding to mask, and every row equals the stock call of its prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.common import fitting, to_image, warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.families.flow import shifted_sigmas, trimmed
from steer.prompts.prompt import Prompt

TOKENS = 512
"""Tokens of text that the pipeline keeps; the prompt comes first, the end of its template after it."""


class QwenImage(Backbone):
    """Backbone of ``QwenImagePipeline``; ``guidance_scale`` is the pipeline's ``true_cfg_scale``.

    Guidance keeps each token's length, as the pipeline does. An empty negative prompt is the blank that the model card
    recommends, because the model knows no empty one.
    """

    default_steps = 50
    default_guidance = 4.0
    takes_guider = True
    half = torch.bfloat16

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        if pipe.transformer.config.guidance_embeds:
            raise SteerError(
                "a Qwen-Image transformer with guidance_embeds is not supported: diffusers has no embedding to give "
                "guidance_scale to; use a checkpoint with guidance_embeds=false, as all published ones have"
            )

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        warn_if_cut(self.pipe.tokenizer, prompt, TOKENS)
        return self._encode_text(str(prompt)), None if negative is None else self._encode_text(negative or " ")

    def _encode_text(self, text: str) -> dict[str, Tensor]:
        embedded, _ = self.pipe.encode_prompt(text, device=self.device, max_sequence_length=TOKENS)
        return {"text": embedded, "length": torch.tensor([embedded.shape[1]])}

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        factor = self.pipe.vae_scale_factor
        width, height = fitting(width, height, self.pipe.default_sample_size * factor, 2 * factor)
        return self.pipe.transformer.config.in_channels // 4, height // factor, width // factor

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        return shifted_sigmas(steps, shape, {**self.scheduler.config, **config})

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        packed = self.pipe._pack_latents(x, *x.shape)
        out = self._forward(denoiser, packed, x.shape, timestep, conditioning.cond)
        if conditioning.uncond is not None:
            uncond = self._forward(denoiser, packed, x.shape, timestep, conditioning.uncond)
            out = self.guide(out, uncond, conditioning.guidance_scale, timestep)
        return out.float()

    def guide(self, cond: Tensor, uncond: Tensor, guidance_scale: float, timestep: Tensor) -> Tensor:
        out = super().guide(cond, uncond, guidance_scale, timestep)
        if self.guider is not None:
            return out
        # the pipeline's own guidance keeps the norm of each token
        own, tokens = (self.pipe._pack_latents(side, *side.shape) for side in (cond, out))
        kept = tokens * (own.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True))
        return self._unpack(kept, out.shape)

    def _forward(
        self, denoiser: str, packed: Tensor, shape: torch.Size, timestep: Tensor, side: Mapping[str, Tensor]
    ) -> Tensor:
        text = trimmed(side["text"], side["length"])
        out: Tensor = self.denoisers[denoiser](
            hidden_states=packed.to(text.dtype),
            timestep=timestep.expand(len(packed)).to(text.dtype) / 1000,
            encoder_hidden_states=text,
            img_shapes=[[(1, shape[-2] // 2, shape[-1] // 2)]] * len(packed),
            return_dict=False,
        )[0]
        return self._unpack(out, shape)

    def _unpack(self, packed: Tensor, shape: torch.Size) -> Tensor:
        height, width = (side * self.pipe.vae_scale_factor for side in shape[-2:])
        latents: Tensor = self.pipe._unpack_latents(packed, height, width, self.pipe.vae_scale_factor)
        return latents[:, :, 0]

    def decode(self, x: Tensor) -> Tensor:
        vae = self.pipe.vae
        x = x.to(vae.dtype)
        mean, std = (x.new_tensor(getattr(vae.config, f"latents_{name}")).view(1, -1, 1, 1) for name in ("mean", "std"))
        one_frame = (x * std + mean).unsqueeze(2)
        return to_image(vae.decode(one_frame, return_dict=False)[0][:, :, 0])
