"""A prompt's request to a model: the labels of its mask, or the number of its class."""

import torch
from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import text_id, unknown
from steer_symmflow.images import mask_of, nearest_labels, pack_mask
from steer_symmflow.model import SymmFlowConfig


def wanted(config: SymmFlowConfig) -> str:
    """Return the key of a prompt's metadata that a model reads, ``"mask"`` or ``"class"``."""
    return "mask" if config.kind == "masks" else "class"


def asked(config: SymmFlowConfig, prompt: Prompt) -> Tensor:
    """Return the labels ``[H, W]`` of a prompt's mask or the number ``[]`` of its class.

    Raises:
        SteerError: for a mask of another size or with unknown colors, or a class that the model does not know.
    """
    value = prompt.metadata[wanted(config)]
    if config.kind == "masks":
        return mask_labels(config, str(value), f"of prompt {named(prompt)}", bool(prompt.metadata.get("nearest")))
    return torch.tensor(class_label(config, value))


def checked(config: SymmFlowConfig, prompt: Prompt) -> Prompt:
    """Return a prompt with its mask read into its metadata, if it names a mask file.

    Raises:
        SteerError: as :func:`asked` does.
    """
    mask = prompt.metadata.get("mask")
    if config.kind == "masks" and mask is not None and not str(mask).startswith("data:"):
        prompt = prompt.having(metadata={**prompt.metadata, "mask": pack_mask(str(mask))})
    asked(config, prompt)
    return prompt


def named(prompt: Prompt) -> str:
    """Return a prompt's name for messages: its id, or its text if the id is only a hash of the text."""
    return repr(str(prompt)[:60]) if prompt.id.startswith(text_id(prompt)) else prompt.id


def mask_labels(config: SymmFlowConfig, value: str, what: str, nearest: bool) -> Tensor:
    """Return the labels ``[H, W]`` of a mask, given as a path or packed by :func:`steer_symmflow.images.pack_mask`.

    Args:
        what: for messages, as in ``"of prompt 3"``.
        nearest: use the label of the nearest color if no label has exactly that color.

    Raises:
        SteerError: for a mask of another size or with unknown colors.
    """
    pixels = mask_of(value, what)
    if pixels.shape[:2] != config.size:
        raise SteerError(
            f"mask {what} is {pixels.shape[1]}x{pixels.shape[0]}, the model's are {config.size[1]}x{config.size[0]}; "
            "resize it without blending colors"
        )
    return torch.from_numpy(nearest_labels(pixels, config.colors, nearest, what))


def class_label(config: SymmFlowConfig, value: object) -> int:
    """Return the number of a class, given its name or number.

    Raises:
        SteerError: for a class that the model does not know.
    """
    name = str(value)
    if name in config.labels:
        return config.labels.index(name)
    if name.isascii() and name.removeprefix("-").isdigit():
        if 0 <= int(name) < len(config.labels):
            return int(name)
        raise SteerError(
            f"class {name}: the model has {len(config.labels)} classes, 0 ({config.labels[0]}) to "
            f"{len(config.labels) - 1} ({config.labels[-1]})"
        )
    raise unknown("class", name, config.labels)
