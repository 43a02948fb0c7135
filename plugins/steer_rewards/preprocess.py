"""Preprocessing of image tensors, as the reference transforms do it on PIL images, with gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Resize ``[N, 3, H, W]`` in [0, 1], bicubic with antialias, clamped as PIL's integers are."""
    if images.shape[-2:] == (height, width):
        return images
    resized = functional.interpolate(images, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


def shortest_side_and_crop(images: Tensor, size: int) -> Tensor:
    """Resize so that the shortest side is ``size`` pixels, then crop the centre: ``[N, 3, size, size]``."""
    height, width = images.shape[-2:]
    if height <= width:
        images = resize(images, size, int(size * width / height))
    else:
        images = resize(images, int(size * height / width), size)
    height, width = images.shape[-2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return images[..., top : top + size, left : left + size]


def normalise(images: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each channel."""
    shape = (1, 3, 1, 1)
    centre = torch.tensor(mean, device=images.device, dtype=images.dtype).view(shape)
    return (images - centre) / torch.tensor(std, device=images.device, dtype=images.dtype).view(shape)
