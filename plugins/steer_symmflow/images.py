"""Image files in, labels out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from steer import SteerError


def nearest_labels(mask: NDArray, colors: tuple[tuple[int, int, int], ...], nearest: bool, what: str) -> NDArray:
    """Return the labels ``[H, W]`` of a colour mask ``[H, W, 3]``.

    Raises:
        SteerError: for a colour that is none of the labels', unless ``nearest`` ones are taken.
    """
    distance = np.abs(mask[:, :, None, :].astype(np.int64) - np.array(colors)).sum(axis=-1)
    labels: NDArray = distance.argmin(axis=-1)
    if not nearest:
        off = distance.min(axis=-1) > 0
        if off.any():
            y, x = (int(v[0]) for v in off.nonzero())
            shown = ", ".join(str(tuple(c)) for c in colors[:6])
            raise SteerError(
                f"mask {what} has the color {tuple(int(v) for v in mask[y, x])} at ({x}, {y}), which is no label's "
                f"({shown}{', …' if len(colors) > 6 else ''}; {int(off.sum())} such pixels); take the nearest with "
                "--nearest"
            )
    return labels


def read_rgb(path: Path, size: tuple[int, int] | None, *, mask: bool = False) -> NDArray:
    """Read an image as uint8 ``[H, W, 3]``, resized if a (height, width) is given; masks without blending."""
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise SteerError(f"image {path} cannot be read: {' '.join(str(error).split())[:120]}") from None
    if size is not None and rgb.size != size[::-1]:
        rgb = rgb.resize(size[::-1], Image.Resampling.NEAREST if mask else Image.Resampling.BICUBIC)
    return np.asarray(rgb)
