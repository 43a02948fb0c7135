"""Helpers of flow models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def dynamic_shift(config: Any, tokens: int, *, max_shift: float = 1.15) -> float:
    """Return the shift ``mu`` of the noise levels, linear in the number of an image's tokens (arXiv 2403.03206, 5.3.2).

    Args:
        config: the scheduler's configuration.
        max_shift: for a configuration without one.
    """
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    slope = (high - low) / (many - few)
    return float(tokens * slope + (low - slope * few))


def shifted_sigmas(steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``set_timesteps`` that pipelines give whose tokens are patches of 2×2 latents."""
    tokens = (shape[-2] // 2) * (shape[-1] // 2)
    return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": dynamic_shift(config, tokens)}


def trimmed(text: Tensor, length: Tensor) -> Tensor:
    """Cut the padding off the texts ``[B, L, D]`` of rows that all have one prompt, and so one ``length`` ``[B]``."""
    return text[:, : int(length[0])]
