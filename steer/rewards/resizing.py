"""Resizing images for a reward, with a gradient that is the same each time on every device."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def resized(images: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resize images with antialiasing.

    Args:
        images: ``[N, C, H, W]``.
        size: height and width.
        mode: ``"bicubic"`` or ``"bilinear"``.

    Returns:
        ``[N, C, height, width]``; bicubic values may lie a little outside of the images' range.
    """
    if images.device.type == "cpu" or not images.requires_grad:
        return _interpolated(images, size, mode)
    out: Tensor = _Resize.apply(images, size, mode)
    return out


def _interpolated(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return functional.interpolate(images, size, mode=mode, antialias=True, align_corners=False)


class _Resize(torch.autograd.Function):
    """The library's own way back adds up in any order on a GPU, so that its last bits differ from call to call.

    Resizing is linear in rows and in columns: the way back multiplies by both matrices, transposed.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
        ctx.shape, ctx.size, ctx.mode = images.shape[-2:], size, mode
        return _interpolated(images, size, mode)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        rows, columns = (
            _matrix(length, target, ctx.mode, gradient) for length, target in zip(ctx.shape, ctx.size, strict=True)
        )
        return rows.T @ gradient @ columns, None, None


def _matrix(length: int, target: int, mode: str, like: Tensor) -> Tensor:
    """Return the matrix ``[target, length]`` that resizes a column."""
    identity = torch.eye(length, dtype=like.dtype, device=like.device)
    return _interpolated(identity[None, None], (target, length), mode)[0, 0]
