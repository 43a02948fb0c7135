"""A student as differences to the denoiser of the model that it was distilled from, rounded to 8 bits or fewer.

Each matrix or kernel is whole numbers times one scale per output channel; vectors stay in half precision. The file has
half the size of the student's own weights in half precision, and packs better. The differences are added to the weights
of the model in use, so they fit its fine-tunes too, as a LoRA does.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SCALE = ".scale_of_rows"
"""Ending of the name of a tensor's scales, float16 ``[rows]``."""


def differences(student: Mapping[str, Tensor], base: Mapping[str, Tensor], bits: int = 8) -> dict[str, Tensor]:
    """Return a student's tensors minus the model's, in few bits.

    Args:
        student, base: tensors of the same names and shapes.
        bits: of each number, 2 to 8; all are stored in 8, of which an archive packs the unused ones.
    """
    most = 2 ** (bits - 1) - 1
    out: dict[str, Tensor] = {}
    for name, value in student.items():
        difference = value.float() - base[name].float()
        if value.ndim < 2:
            out[name] = difference.half()
            continue
        rows = difference.flatten(1)
        scale = (rows.abs().amax(dim=1) / most).half()
        # rounding a scale down would cut the largest numbers off, and one of 0 would divide by it
        scale = torch.where(scale.float() * most < rows.abs().amax(dim=1), torch.nextafter(scale, 2 * scale + 1), scale)
        whole = (rows / scale.float().clamp(min=1e-12)[:, None]).round().clamp(-most, most)
        out[name], out[name + SCALE] = whole.to(torch.int8).view_as(value), scale
    return out


def added(base: Tensor, stored: Mapping[str, Tensor], name: str) -> Tensor:
    """Return the student's tensor ``name``: the model's own plus its difference, in the precision of the model."""
    difference = stored[name].to(base.device).float()
    if name + SCALE in stored:
        scale = stored[name + SCALE].to(base.device).float()
        difference = difference * scale.view(-1, *[1] * (base.ndim - 1))
    return (base.float() + difference).to(base.dtype)


def shapes(base: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a file of differences, by name, for a model's."""
    scales = {name + SCALE: (shape[0],) for name, shape in base.items() if len(shape) > 1}
    return {name: tuple(shape) for name, shape in base.items()} | scales
