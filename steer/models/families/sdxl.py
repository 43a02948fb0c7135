"""Stable Diffusion XL: two CLIP text encoders, a pooled text embedding and the image's size as conditioning."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.common import warn_if_cut
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.families.clip_text import encode_texts
from steer.models.families.sd import StableDiffusion
from steer.prompts.prompt import Prompt

SIZES = ("original_size", "crop", "target_size")
"""Micro-conditioning (arXiv 2307.01952, sec. 2.2) that a prompt's metadata may give, each as ``[width, height]`` or
``[left, top]`` in pixels; by default an uncropped image of the sampled size."""


class StableDiffusionXL(StableDiffusion):
    """Backbone of ``StableDiffusionXLPipeline``: base, turbo and fine-tunes."""

    default_steps = 50
    default_guidance = 5.0
    preview = "taesdxl"

    def conditioned_on(self, prompt: Prompt) -> tuple[Hashable, ...]:
        return tuple(_pair(prompt, name) for name in SIZES)

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        warn_if_cut(self.pipe.tokenizer, prompt, self.pipe.tokenizer.model_max_length)
        # no negative prompt is not an empty one: the base model was trained with zeros for it
        text, untext, pooled, unpooled = self.pipe.encode_prompt(
            str(prompt),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=negative is not None,
            negative_prompt=negative or None,
        )
        ids = self._sizes(prompt)
        cond = {"text": text, "pooled": pooled, "sizes": ids}
        return cond, None if negative is None else {"text": untext, "pooled": unpooled, "sizes": ids}

    def encode_weighted(self, prompt: Prompt, written: str, negative: str | None) -> Encoded:
        # no negative prompt is not an empty one, as above
        zeros = negative == "" and self.pipe.config.force_zeros_for_empty_prompt
        ids = self._sizes(prompt)
        sides = [
            {"text": text, "length": torch.tensor([text.shape[1]]), "pooled": pooled, "sizes": ids}
            for text, pooled in self._texts_with_weights(
                [written] if negative is None or zeros else [written, negative]
            )
        ]
        if zeros:
            sides.append({**sides[0], **{name: torch.zeros_like(sides[0][name]) for name in ("text", "pooled")}})
        return sides[0], None if negative is None else sides[1]

    def _texts_with_weights(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        pipe = self.pipe
        encoders = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
        forwards = [(tokenizer, partial(_penultimate, part)) for tokenizer, part in encoders if part is not None]
        return encode_texts(texts, forwards, pipe.maybe_convert_prompt, self.device)

    def _sizes(self, prompt: Prompt) -> Tensor:
        """Return the micro-conditioning ``[1, 6]``."""
        # NaN stands for the image's size, which is known later
        unknown = (float("nan"), float("nan"))
        sizes = (
            _pair(prompt, "original_size") or unknown,
            _pair(prompt, "crop") or (0, 0),
            _pair(prompt, "target_size") or unknown,
        )
        # the model takes height first
        return torch.tensor([[float(value) for pair in sizes for value in reversed(pair)]], device=self.device)

    @property
    def autoencoder(self) -> Any:
        return self.safe_vae

    def _denoiser_keywords(self, x: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        pooled, sizes = conditioning.batched("pooled"), conditioning.batched("sizes")
        height, width = (side * self.pipe.vae_scale_factor for side in x.shape[-2:])
        own = sizes.new_tensor([height, width, 0, 0, height, width])
        time_ids = torch.where(sizes.isnan(), own, sizes).to(pooled.dtype)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids}}


def _penultimate(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    out = encoder(ids, output_hidden_states=True)
    return out.hidden_states[-2], out[0]


def _pair(prompt: Prompt, name: str) -> tuple[int, int] | None:
    value = prompt.metadata.get(name)
    if value is None:
        return None
    ok = isinstance(value, (list, tuple)) and len(value) == 2
    if not ok or not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 65_536 for v in value):
        raise SteerError(
            f"prompt {prompt.id}: {name}={value!r}, expected two whole numbers of pixels in 0..65536: [1024, 1024]"
        )
    return value[0], value[1]
