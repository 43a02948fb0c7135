"""Images of folders, batch by batch, for measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.evaluate.score.images import find_images, read_image, size_of

Advance = Callable[[], object]
"""Called after each image."""
BATCH_PIXELS = 8 * 1024**2
"""Pixels of a batch of several images."""


def images_in(folder: Path, what: str) -> list[Path]:
    """Return the images of a folder.

    Raises:
        SteerError: if it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise SteerError(f"{what} {folder} is no folder; expected one with images")
    try:
        return find_images([folder])
    except SteerError as error:
        raise SteerError(f"{what} {folder}: {error}") from None


def batches(paths: Sequence[Path], batch: int, advance: Advance = lambda: None) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield files of one size with their pixels, uint8 ``[N, 3, H, W]``.

    Raises:
        ImageError: for a file that cannot be read: a measure of the others would be another measure.
    """
    waiting: list[tuple[Path, Tensor]] = []
    for path in sorted(paths, key=size_of, reverse=True):
        pixels = (read_image(path).pixels * 255).round().to(torch.uint8)
        most = max(1, min(batch, BATCH_PIXELS // pixels[0].numel()))
        if waiting and (waiting[0][1].shape != pixels.shape or len(waiting) >= most):
            yield _stacked(waiting)
            waiting = []
        waiting.append((path, pixels))
        advance()
    if waiting:
        yield _stacked(waiting)


def pairs_of(folder: Path, reference: Path) -> list[tuple[Path, Path]]:
    """Return the images of two folders that have the same place and name in theirs, endings aside.

    Raises:
        SteerError: naming an image without its counterpart.
    """
    first, second = (_by_place(root, images_in(root, "folder")) for root in (folder, reference))
    for name, path in first.items():
        if name not in second:
            raise SteerError(
                f"image {path} has no counterpart {name} in {reference}; pairs have the same place and name"
            )
    return [(path, second[name]) for name, path in first.items()]


def _by_place(root: Path, paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in found:
            raise SteerError(f"folder {root} holds two images named {name}; keep one of them")
        found[name] = path
    return found


def _stacked(waiting: Sequence[tuple[Path, Tensor]]) -> tuple[list[Path], Tensor]:
    return [path for path, _ in waiting], torch.stack([pixels for _, pixels in waiting])
