"""Segmentations against true masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steer import SteerError
from steer.plugin import confusion, find_images, ious, mean_iou, over_images, read_mask
from steer_symmflow.model import SymmFlowConfig
from steer_symmflow.reading.common import Reading


class Truth:
    """Compares readings with the true masks of a folder: pictures of the labels' colors, or of their numbers."""

    def __init__(self, folder: Path, images: Sequence[Path]) -> None:
        """Find the true mask of each image.

        Raises:
            SteerError: naming an image without one.
        """
        if not folder.is_dir():
            raise SteerError(f"--truth {folder} is no folder; expected one with masks of the images' names")
        there = {path.stem: path for path in find_images([folder])}
        for image in images:
            if image.stem not in there:
                raise SteerError(f"image {image} has no true mask {image.stem} in {folder}")
        self._masks = there
        self._tables: list[Any] = []

    def add(self, reading: Reading, config: SymmFlowConfig) -> float | None:
        """Compare one reading; return the mean intersection over union of its labels, ``None`` without a true one."""
        right = _labels(self._masks[reading.path.stem], config)
        found = reading.votes.argmax(dim=0).numpy()
        self._tables.append(confusion(found, right, len(config.labels)))
        return mean_iou(self._tables[-1]) if self._tables[-1].any() else None

    def summary(self, config: SymmFlowConfig) -> dict[str, Any]:
        """Return the figures over all pixels, and over images."""
        total = np.sum(self._tables, axis=0)
        if not np.any(total):
            return {}
        each = {name: value for name, value in zip(config.labels, ious(total).tolist(), strict=True) if value == value}
        over = over_images(self._tables)
        count = len(self._tables)
        figures: dict[str, Any] = {"miou": {"value": mean_iou(total), "images": count, "labels": each}}
        if over is not None:
            figures["miou_over_images"] = {
                "value": over.estimate, "low": over.low, "high": over.high, "images": count,
            }  # fmt: skip
        return figures


def _labels(path: Path, config: SymmFlowConfig) -> Any:
    """Read a true mask: of numbers if it has one channel, else of the labels' colors."""
    try:
        return read_mask(path, None)
    except SteerError:
        return read_mask(path, list(config.colors))
