"""Fingerprints of weights: a recipe holds them, so that a replay can tell that today's are others."""

from __future__ import annotations

import hashlib

from torch import Tensor, nn

from steer.models.room import held_by

NUMBERS = 16
"""Numbers of each tensor that are read: training changes all, and to read all would take as long as loading them."""


def fingerprint(module: nn.Module) -> str:
    """Return a SHA-256 of some numbers of each of a module's weights, in whatever order and under whatever names.

    It depends on the precision that the weights are in.
    """
    parts = sorted(_sample(tensor) for weight in module.parameters() for tensor in held_by(weight))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _sample(tensor: Tensor) -> bytes:
    shape = str(tuple(tensor.shape)).encode()
    if tensor.is_meta:  # offloaded layer by layer
        return shape
    flat = tensor.detach().flatten()
    return shape + flat[:: max(1, len(flat) // NUMBERS)].float().cpu().numpy().tobytes()
