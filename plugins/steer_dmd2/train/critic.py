"""The GAN's head, on features from the middle of the critic (arXiv 2405.14867, sec. 4.3)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule


class Head(nn.Module):
    """Features ``[B, C, h, w]`` to logits ``[B]``: strided convolutions down to 4×4, then one over the whole grid.

    If the features are not square, the last convolution slides along the longer side, and its outputs are averaged.
    """

    def __init__(self, channels: int, size: int) -> None:
        """Args: channels: C of the features; size: the shorter of h and w."""
        super().__init__()
        groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0)
        layers: list[nn.Module] = []
        while size > 4:
            layers += [nn.Conv2d(channels, channels, 4, 2, 1), nn.GroupNorm(groups, channels), nn.SiLU()]
            size //= 2
        layers += [nn.Conv2d(channels, channels, 3, 1, 1), nn.GroupNorm(groups, channels), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, size))

    def forward(self, features: Tensor) -> Tensor:
        """Return one logit per row."""
        logits: Tensor = self.layers(features.float()).flatten(1).mean(1)
        return logits


class _EnoughError(Exception):
    """Ends a forward pass once the bottleneck is known."""


@contextmanager
def _watched(denoiser: Any, found: list[Tensor], stop: bool) -> Iterator[None]:
    def keep(features: Tensor) -> None:
        found.append(features)
        if stop:
            raise _EnoughError

    def before(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        keep(keywords["hidden_states"] if "hidden_states" in keywords else inputs[0])

    if hasattr(denoiser, "mid_block"):
        handle = denoiser.mid_block.register_forward_hook(lambda _, __, output: keep(output))
    else:  # before a block: within one, activations may be computed again, of which only a whole block knows
        blocks = denoiser.transformer_blocks
        handle = blocks[len(blocks) // 2].register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    except _EnoughError:
        pass
    finally:
        handle.remove()


def with_features(denoiser: Any, x: Tensor, forward: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the output of a forward pass, and features ``[B, C, h, w]`` from its middle.

    These are a UNet's bottleneck, or what the middle block of a transformer gets.

    Args:
        x: latents ``[B, …]`` that the pass is of.
    """
    found: list[Tensor] = []
    with _watched(denoiser, found, stop=False):
        out = forward()
    return out, _grid(found[0], x)


def features_only(denoiser: Any, x: Tensor, forward: Callable[[], Tensor]) -> Tensor:
    """Return the features alone, without what comes after them, which saves about half of the time.

    A denoiser that is split over processes must come to its end, where it drops what it has gathered.
    """
    found: list[Tensor] = []
    with _watched(denoiser, found, stop=not isinstance(denoiser, FSDPModule)):
        forward()
    return _grid(found[0], x)


def feature_shape(denoiser: Any, x: Tensor, forward: Callable[[], Tensor]) -> tuple[int, int]:
    """Return the channels and the shorter side of the features."""
    with torch.no_grad():
        shape = features_only(denoiser, x, forward).shape
    return int(shape[1]), int(min(shape[2:]))


def _grid(features: Tensor, x: Tensor) -> Tensor:
    """Return tokens ``[B, N, C]``, each of a square of the latents ``[B, …, H, W]``, as ``[B, C, h, w]``."""
    if features.ndim == 4:
        return features
    height, width = x.shape[-2:]
    side = math.isqrt(height * width // features.shape[1])
    return features.transpose(1, 2).reshape(len(features), -1, height // side, width // side)
