"""The semantics half: a class as a plane, a mask as colors; and how each is read back.

Discrete values become continuous by adding uniform noise smaller than the distance between two values
(dequantization), so that the flow has a density to learn.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Color = tuple[int, int, int]


def class_values(count: int, beta: float) -> Tensor:
    """Return the plane value of each of ``count`` classes, equally spaced in [−β/2, β/2]."""
    return torch.linspace(-beta / 2, beta / 2, count)


def class_planes(labels: Tensor, count: int, beta: float, shape: Sequence[int], noise: Tensor | None = None) -> Tensor:
    """Return constant planes ``[N, *shape]`` for labels ``[N]`` in 0..count−1.

    Args:
        noise: uniform in [0, 1), of the result's shape; dequantizes by up to a quarter of the distance between two
            classes in either direction. ``None`` for exact planes.
    """
    values = class_values(count, beta).to(labels.device)[labels]
    planes = values.view(-1, *[1] * len(shape)).expand(-1, *shape)
    if noise is None:
        return planes.contiguous()
    return planes + (noise - 0.5) * (beta / 2) / (count - 1)


def class_scores(planes: Tensor, count: int, beta: float) -> Tensor:
    """Return log-scores ``[N, count]`` of planes ``[N, …]``: minus the squared distance of the mean to each class's
    value, in units of half the distance between two classes. The largest score is the nearest class."""
    mean = planes.flatten(1).mean(dim=1, keepdim=True)
    half = beta / (count - 1) / 2
    return -((mean - class_values(count, beta).to(mean)) / half).square()


def mask_values(colors: Sequence[Color], device: torch.device | str = "cpu") -> Tensor:
    """Return the colors in [−1, 1], ``[K, 3]``."""
    return torch.tensor(colors, dtype=torch.float32, device=device) / 127.5 - 1


def mask_planes(labels: Tensor, colors: Sequence[Color], beta: float, noise: Tensor | None = None) -> Tensor:
    """Return a color-coded mask ``[N, 3, H, W]`` in [−1, 1] for labels ``[N, H, W]``.

    Args:
        noise: uniform in [0, 1), of the result's shape; dequantizes by β·(U−½)/127.5.
    """
    planes = mask_values(colors, labels.device)[labels].movedim(-1, 1)
    return planes if noise is None else planes + beta * (noise - 0.5) / 127.5


def mask_scores(planes: Tensor, colors: Sequence[Color]) -> Tensor:
    """Return minus the squared distance of each pixel ``[N, 3, H, W]`` to each color, ``[N, K, H, W]``."""
    values = mask_values(colors, planes.device).to(planes)
    return -(planes.unsqueeze(1) - values.view(1, -1, 3, 1, 1)).square().sum(dim=2)
