"""The GAN's head, on the critic's bottleneck features (arXiv 2405.14867, sec. 4.3)."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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
def _watched(unet: Any, found: list[Tensor], stop: bool) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(output)
        if stop:
            raise _EnoughError

    handle = unet.mid_block.register_forward_hook(keep)
    try:
        yield
    except _EnoughError:
        pass
    finally:
        handle.remove()


def with_features(unet: Any, forward: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the output of a forward pass, and the bottleneck's features."""
    found: list[Tensor] = []
    with _watched(unet, found, stop=False):
        out = forward()
    return out, found[0]


def features_only(unet: Any, forward: Callable[[], Tensor]) -> Tensor:
    """Return the bottleneck's features without running the decoder, which saves more than half of the time."""
    found: list[Tensor] = []
    with _watched(unet, found, stop=True):
        forward()
    return found[0]


def feature_shape(unet: Any, forward: Callable[[], Tensor]) -> tuple[int, int]:
    """Return the channels and the shorter side of the bottleneck's features."""
    with torch.no_grad():
        shape = features_only(unet, forward).shape
    return int(shape[1]), int(min(shape[2:]))
