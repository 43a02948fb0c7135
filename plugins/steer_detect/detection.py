"""Objects that a detector found, and which of them count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One object in an image.

    Attributes:
        name: of its class, as the prompt writes it.
        score: the detector's confidence, 0…1.
        box: its bounding box.
        mask: which pixels of the box belong to it, bool ``[bottom - top, right - left]``; ``None`` if unknown.
    """

    name: str
    score: float
    box: Box
    mask: NDArray[np.bool_] | None = None


def overlap(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes whose last row and column of pixels belong to them."""
    shared = _area((*np.maximum(first[:2], second[:2]), *np.minimum(first[2:], second[2:])))
    union = _area(first) + _area(second) - shared
    return shared / union if union else 0.0


def kept(
    found: Iterable[Detection], threshold: float, *, most: int, most_overlap: float = 1.0
) -> dict[str, list[Detection]]:
    """Return the detections that count, by class, the surest first.

    Args:
        found: of one image.
        threshold: only detections of a higher score count.
        most: of a class.
        most_overlap: a detection that overlaps a surer one of its class at least so much is the same object; at 1, none
            is.
    """
    groups: dict[str, list[Detection]] = {}
    for one in found:
        # in single precision, in which detectors score: a score of 0.3 is not above a threshold of 0.3
        if np.float32(one.score) > np.float32(threshold):
            groups.setdefault(one.name, []).append(one)
    return {name: _distinct(_surest(group)[:most], most_overlap) for name, group in groups.items()}


def _surest(group: Sequence[Detection]) -> list[Detection]:
    """Return a class by falling score; of equal ones, the later is first, as in GenEval's evaluation."""
    return sorted(group, key=lambda one: np.float32(one.score))[::-1]


def _distinct(group: Iterable[Detection], most_overlap: float) -> list[Detection]:
    chosen: list[Detection] = []
    for one in group:
        if most_overlap >= 1 or all(overlap(other.box, one.box) < most_overlap for other in chosen):
            chosen.append(one)
    return chosen


def _area(box: Sequence[float]) -> float:
    left, top, right, bottom = map(float, box)
    return max(right - left + 1, 0.0) * max(bottom - top + 1, 0.0)
