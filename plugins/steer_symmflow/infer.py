"""Both directions of a model: images from semantics, and semantics from images."""

import torch
from torch import Tensor

from steer_symmflow import flow, semantics
from steer_symmflow.model import SymmFlowModel


def half_of(model: SymmFlowModel, targets: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return the semantics half of the state for labels, ``[N, C, h, w]``.

    Args:
        targets: ``[N]`` of classes, ``[N, H, W]`` of masks.
        noise: uniform in [0, 1), dequantizes: ``[N, 3, H, W]`` for masks, of the result's shape for classes.
    """
    config = model.config
    if config.kind == "masks":
        return model.encode(semantics.mask_planes(targets, config.colors, config.beta, noise))
    return semantics.class_planes(targets, len(config.labels), config.beta, model.half_shape, noise)


@torch.no_grad()
def draw(model: SymmFlowModel, planes: Tensor, noise: Tensor, *, steps: int, solver: str = "euler") -> Tensor:
    """Draw images ``[N, 3, H, W]`` in [0, 1].

    Args:
        planes: the semantics half of the state, ``[N, C, h, w]``.
        noise: standard normal, of the same shape.
    """
    z = flow.integrate(model, flow.join(noise, planes), 0.0, 1.0, steps, solver, model.config.shift)
    return (model.decode(flow.split(z)[0]) / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def infer(model: SymmFlowModel, images: Tensor, noise: Tensor, *, steps: int, solver: str = "euler") -> Tensor:
    """Return log-scores of images' labels: ``[N, K]`` for classes, ``[N, K, H, W]`` for masks.

    Args:
        images: ``[N, 3, H, W]`` in [0, 1].
        noise: standard normal, of the shape of one half of the state.
    """
    return scores(model, semantic_half(model, images, noise, steps=steps, solver=solver))


def semantic_half(model: SymmFlowModel, images: Tensor, noise: Tensor, *, steps: int, solver: str = "euler") -> Tensor:
    """Run the flow back from images and noise; return the semantics half of the state. Differentiable.

    The arguments are those of :func:`infer`.
    """
    z = flow.join(model.encode(images * 2 - 1), noise)
    _, half = flow.split(flow.integrate(model, z, 1.0, 0.0, steps, solver))
    return half


def scores(model: SymmFlowModel, half: Tensor) -> Tensor:
    """Return the log-scores of a semantics half; their argmax is the label. Differentiable."""
    config = model.config
    if config.kind == "classes":
        return semantics.class_scores(half, len(config.labels), config.beta)
    return semantics.mask_scores(model.decode(half), config.colors)


def intersection_over_union(found: Tensor, truth: Tensor, count: int) -> Tensor:
    """Return the IoU of each label over all pixels of a batch, ``[count]``; NaN if neither has the label."""
    pairs = torch.bincount((truth * count + found).flatten(), minlength=count * count).view(count, count).cpu().double()
    both = pairs.diagonal()
    return both / (pairs.sum(0) + pairs.sum(1) - both)
