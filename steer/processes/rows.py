"""Rows of tensors that may be on several devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def taking(rows: Tensor) -> Callable[[Any], Any]:
    """Return a function that takes these rows of a tensor (or of texts); indices are copied to each device once.

    Args:
        rows: int64 ``[M]`` on the CPU.
    """
    there: dict[torch.device, Tensor] = {}

    def take(value: Any) -> Any:
        if value.device not in there:
            there[value.device] = rows.to(value.device)
        return value[there[value.device]]

    return take
