"""A model's labels of images with their confidence: several noise draws vote."""

import torch
from torch import Tensor
from torch.nn import functional

from steer.plugin import resized
from steer_symmflow import infer
from steer_symmflow.model import SymmFlowModel


def fitted(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``[N, 3, H, W]`` in [0, 1] to (height, width), antialiased; the aspect ratio is not kept."""
    if images.shape[2:] == size:
        return images
    return resized(images, size).clamp(0, 1)


def noise_of(model: SymmFlowModel, seed: int, draw: int) -> Tensor:
    """Return a draw's noise ``[1, C, h, w]``, the same for every image, so that no result depends on the batch."""
    generator = torch.Generator().manual_seed((seed + draw) % 2**32)
    return torch.randn(1, *model.half_shape, generator=generator)


def votes(
    model: SymmFlowModel, images: Tensor, *, steps: int, draws: int, seed: int = 0, solver: str = "euler"
) -> Tensor:
    """Return the share of noise draws that give each label: ``[N, K]`` for classes, ``[N, K, H, W]`` for masks.

    The largest share determines the label, and is its confidence.

    Args:
        images: ``[N, 3, H, W]`` in [0, 1], of the model's size.
        draws: noise draws; each costs ``steps`` solver steps.
    """
    total: Tensor | None = None
    for draw in range(draws):
        noise = noise_of(model, seed, draw).to(images).expand(len(images), -1, -1, -1)
        labels = infer.infer(model, images, noise, steps=steps, solver=solver).argmax(dim=1)
        one_hot = functional.one_hot(labels, len(model.config.labels)).movedim(-1, 1).float()
        total = one_hot if total is None else total + one_hot
    assert total is not None
    return total / draws
