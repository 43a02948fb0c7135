"""What a prompt asks of a model: the labels of its mask, or the number of its class."""

from __future__ import annotations

import torch
from torch import Tensor

from steer import SteerError
from steer.errors import unknown
from steer_symmflow.images import mask_of, nearest_labels
from steer_symmflow.model import SymmFlowConfig


def mask_labels(config: SymmFlowConfig, value: str, what: str, nearest: bool) -> Tensor:
    """Return the labels ``[H, W]`` of a mask, a file's path or packed by :func:`steer_symmflow.images.pack_mask`.

    Args:
        what: for messages, as in ``"of prompt 3"``.
        nearest: take the label of the nearest colour where there is none of that very colour.

    Raises:
        SteerError: for a mask of another size or with unknown colours.
    """
    pixels = mask_of(value, what)
    if pixels.shape[:2] != config.size:
        raise SteerError(
            f"mask {what} is {pixels.shape[1]}x{pixels.shape[0]}, the model's are {config.size[1]}x{config.size[0]}; "
            "resize it without blending colors"
        )
    return torch.from_numpy(nearest_labels(pixels, config.colors, nearest, what))


def class_label(config: SymmFlowConfig, value: object) -> int:
    """Return the number of a class that is given by its name or number.

    Raises:
        SteerError: for one that the model does not know.
    """
    name = str(value)
    if name in config.labels:
        return config.labels.index(name)
    if name.isdigit():
        if int(name) < len(config.labels):
            return int(name)
        raise SteerError(
            f"class {name}: the model has {len(config.labels)}, 0 ({config.labels[0]}) to {len(config.labels) - 1} "
            f"({config.labels[-1]})"
        )
    raise unknown("class", name, config.labels)
