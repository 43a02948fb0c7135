"""What model families have in common: sizes, texts that are cut off, guidance, and latents on their way to images."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.options import group_offloaded, offloaded


def guided(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Apply classifier-free guidance (arXiv 2207.12598, eq. 6)."""
    return uncond + guidance_scale * (cond - uncond)


def to_image(decoded: Tensor) -> Tensor:
    """Turn a decoder's output in [−1, 1] into samples in [0, 1]."""
    image = decoded.float() / 2 + 0.5
    # an infinite value would be clamped to white, and nobody told
    return image.masked_fill(image.isinf(), torch.nan).clamp(0, 1)


def unscaled(x: Tensor, config: Any) -> Tensor:
    """Return latents ``[B, C, H, W]`` scaled for an autoencoder, by its configuration: mean and standard deviation of
    each channel, else one factor and one shift."""
    mean, std = (getattr(config, f"latents_{name}", None) for name in ("mean", "std"))
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(x) for values in (mean, std))
        scaled: Tensor = x * std / config.scaling_factor + mean
        return scaled
    shifted: Tensor = x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return shifted


def overflow_safe(vae: Any, *, ours: bool = False) -> Any:
    """Return a VAE in fp32 if its fp16 activations overflow.

    It is a copy, so that the pipeline's own does not change, unless the pipeline is ``ours``: a copy would be moved and
    counted by nobody. An offloaded VAE is converted in place too, because its hooks hold the other parts of the
    pipeline, and a copy would copy and move them all.
    """
    if vae.dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        return vae
    if group_offloaded(vae):
        raise SteerError(
            "the autoencoder overflows in fp16, and one under group offload cannot change its precision: call "
            "pipe.vae.to(torch.float32) before enable_group_offload"
        )
    return vae.float() if ours or offloaded(vae) else copy.deepcopy(vae).float()


def warn_if_cut(tokenizer: Any, prompt: str, limit: int) -> None:
    """Warn if a prompt has more tokens than the text encoder takes, and say what is cut off."""
    ids = tokenizer(str(prompt), truncation=False).input_ids
    if len(ids) > limit:
        special = tokenizer.num_special_tokens_to_add()
        ends = ids[-1] in tokenizer.all_special_ids  # an end token stays and takes a word's place
        cut = tokenizer.decode(ids[limit - 1 if ends else limit :], skip_special_tokens=True)
        if not cut.strip():  # special tokens alone
            return
        shown = cut if len(cut) <= 120 else f"{cut[:119]}…"
        warnings.warn(
            f"prompt {prompt[:40]!r}… has {len(ids) - special} tokens, the text encoder takes {limit - special}; "
            f"cut off: {shown!r}",
            stacklevel=2,
        )


def fitting(width: int | None, height: int | None, native: int, multiple: int) -> tuple[int, int]:
    """Return an image's width and height, both ``native`` pixels by default.

    Raises:
        SteerError: unless both are positive multiples of ``multiple`` pixels.
    """
    width, height = width or native, height or native
    for name, value in (("width", width), ("height", height)):
        if value < multiple or value % multiple:
            near = max(multiple, round(value / multiple) * multiple)
            raise SteerError(
                f"{name}={value} does not fit the model: expected a multiple of {multiple}, such as {near}"
            )
    return width, height
