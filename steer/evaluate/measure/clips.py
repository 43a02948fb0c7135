"""CMMD (Jayasumana et al. 2024, arXiv 2401.09603): the distance of two sets of images in a CLIP's space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steer.evaluate.compare.embedding import Embed
from steer.evaluate.measure.images import Advance, batches

CLIP = "ViT-L-14-336/openai"
"""The CLIP of the paper."""
BANDWIDTH, SCALE = 10.0, 1000.0
"""Of the Gaussian kernel, and the factor that makes distances readable."""
ROWS = 1024
"""Rows of a kernel matrix in memory at once."""

Floats = NDArray[np.float64]


def embeddings(embed: Embed, paths: Sequence[Path], batch: int, advance: Advance) -> Floats:
    """Return unit vectors ``[N, D]`` of images."""
    return np.concatenate([embed(pixels.float() / 255) for _, pixels in batches(paths, batch, advance)])


def cmmd(first: Floats, second: Floats) -> float:
    """Return the squared maximum mean discrepancy of two sets of unit vectors, scaled.

    Means over all pairs, those of an image with itself included, as in the paper's code.
    """
    return SCALE * (_kernel(first, first) + _kernel(second, second) - 2 * _kernel(first, second))


def _kernel(first: Floats, second: Floats) -> float:
    squares = np.square(second).sum(axis=1)
    total = 0.0
    for start in range(0, len(first), ROWS):
        part = first[start : start + ROWS]
        distances = np.square(part).sum(axis=1)[:, None] + squares - 2 * part @ second.T
        total += float(np.exp(-distances / (2 * BANDWIDTH**2)).sum())
    return total / (len(first) * len(second))
