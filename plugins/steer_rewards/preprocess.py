"""Differentiable preprocessing of image tensors that matches the reference transforms on PIL images."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from steer.plugin import resized

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def resize(images: Tensor, height: int, width: int, interpolation: str = "bicubic") -> Tensor:
    """Resize ``[N, 3, H, W]`` in [0, 1] with antialiasing, and clamp as PIL's integers do."""
    if images.shape[-2:] == (height, width):
        return images
    return resized(images, (height, width), interpolation).clamp(0, 1)


def shortest_side_and_crop(
    images: Tensor, size: int, interpolation: str = "bicubic", offset: Callable[[float], int] = round
) -> Tensor:
    """Resize so that the shortest side is ``size`` pixels, then crop the center: ``[N, 3, size, size]``.

    ``offset`` rounds the crop's corner to a whole number: torchvision rounds to nearest, transformers rounds down.
    """
    height, width = images.shape[-2:]
    if height <= width:
        images = resize(images, size, int(size * width / height), interpolation)
    else:
        images = resize(images, int(size * height / width), size, interpolation)
    height, width = images.shape[-2:]
    top, left = offset((height - size) / 2), offset((width - size) / 2)
    return images[..., top : top + size, left : left + size]


def longest_side_and_pad(images: Tensor, size: int, interpolation: str = "bicubic", fill: float = 0.0) -> Tensor:
    """Resize so that the longest side is ``size`` pixels, then pad both sides with ``fill``: ``[N, 3, size, size]``."""
    height, width = images.shape[-2:]
    scale = size / max(height, width)
    images = resize(images, max(1, round(height * scale)), max(1, round(width * scale)), interpolation)
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    return functional.pad(images, (left, size - width - left, top, size - height - top), value=fill)


def normalize(images: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each channel."""
    shape = (1, 3, 1, 1)
    center = torch.tensor(mean, device=images.device, dtype=images.dtype).view(shape)
    return (images - center) / torch.tensor(std, device=images.device, dtype=images.dtype).view(shape)


def of_open_clip(config: Mapping[str, Any], size: int) -> Callable[[Tensor], Tensor]:
    """Return open_clip's transform for inference, on tensors.

    Args:
        config: open_clip's ``preprocess_cfg``: mean, std, interpolation, resize mode, fill color.
        size: side of the model's square images in pixels.
    """
    mean, std = tuple(config["mean"]), tuple(config["std"])
    mode, fill = config.get("resize_mode") or "shortest", float(config.get("fill_color") or 0) / 255
    interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"

    def preprocess(images: Tensor) -> Tensor:
        if mode == "squash":
            images = resize(images, size, size, interpolation)
        elif mode == "longest":
            images = longest_side_and_pad(images, size, interpolation, fill)
        else:
            images = shortest_side_and_crop(images, size, interpolation)
        return normalize(images, mean, std)

    return preprocess


def of_transformers(size: int) -> Callable[[Tensor], Tensor]:
    """Return the transform of transformers' ``CLIPImageProcessor``, on tensors."""
    return lambda images: normalize(shortest_side_and_crop(images, size, offset=math.floor))


def pad_square(images: Tensor, color: Sequence[float]) -> Tensor:
    """Pad the shorter side with a color in [0, 1] around the image: ``[N, 3, S, S]``, with S the longer side."""
    height, width = images.shape[-2:]
    side = max(height, width)
    if height == width:
        return images
    top, left = (side - height) // 2, (side - width) // 2
    canvas = torch.tensor(color, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    inside = functional.pad(torch.ones_like(images[:1, :1]), (left, side - width - left, top, side - height - top))
    return functional.pad(images, (left, side - width - left, top, side - height - top)) + canvas * (1 - inside)
