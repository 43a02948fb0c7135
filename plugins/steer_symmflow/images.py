"""From image files to labels; and masks as text in a prompt's metadata."""

import base64
import binascii
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steer import SteerError
from steer.plugin import image_bytes, opened_image

PREFIX = "data:image/png;base64,"


def nearest_labels(
    mask: NDArray,
    colors: tuple[tuple[int, int, int], ...],
    nearest: bool,
    what: str,
    remedy: str = "use the nearest label with --nearest",
) -> NDArray:
    """Return the labels ``[H, W]`` of a color mask uint8 ``[H, W, 3]``; ``what`` and ``remedy`` are for the message.

    Raises:
        SteerError: for a color of no label, unless ``nearest`` is true.
    """
    # by distinct color, because a table of pixels by labels could fill the memory
    codes, rows = np.unique(mask.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1], np.int64), return_inverse=True)
    found = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    distance = np.abs(found[:, None, :] - np.array(colors)).sum(axis=-1)
    if not nearest:
        off = (distance.min(axis=-1) > 0)[rows].reshape(mask.shape[:2])
        if off.any():
            y, x = (int(v[0]) for v in off.nonzero())
            shown = ", ".join(str(tuple(c)) for c in colors[:6])
            raise SteerError(
                f"mask {what} has the color {tuple(int(v) for v in mask[y, x])} at ({x}, {y}), which no label has "
                f"({shown}{', …' if len(colors) > 6 else ''}; {int(off.sum())} such pixels); {remedy}"
            )
    labels: NDArray = distance.argmin(axis=-1)[rows].reshape(mask.shape[:2])
    return labels


def resized_mask(mask: NDArray, size: tuple[int, int]) -> NDArray:
    """Return a color mask resized to (height, width), without blending."""
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def read_rgb(path: Path) -> NDArray:
    """Read a mask as uint8 ``[H, W, 3]``.

    Raises:
        SteerError: if it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SteerError(f"image {path} does not exist") from None
    except OSError as error:
        raise SteerError(f"image {path} cannot be read: {error.strerror or error}") from None
    return _decoded(data, f"image {path}")


def pack_mask(value: str) -> str:
    """Return the mask in a file as text (a data URI of a lossless PNG), for a prompt's metadata.

    Raises:
        SteerError: if the file cannot be read.
    """
    rgb = Image.fromarray(read_rgb(Path(value).expanduser()))
    few = rgb.getcolors(256)
    # a palette of exactly these colors loses nothing and is much smaller
    small = rgb.quantize(len(few), dither=Image.Dither.NONE) if few and _exact(rgb, len(few)) else rgb
    return PREFIX + base64.b64encode(image_bytes(small)).decode()


def mask_of(value: str, what: str) -> NDArray:
    """Return the colors uint8 ``[H, W, 3]`` of a mask in a prompt's metadata: packed, or the path of a file.

    Raises:
        SteerError: if it cannot be read; ``what`` names the mask.
    """
    if not value.startswith("data:"):
        return read_rgb(Path(value).expanduser())
    try:
        if not value.startswith(PREFIX):
            raise ValueError
        data = base64.b64decode(value.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise SteerError(f"mask {what} is not a PNG in base64") from None
    return _decoded(data, f"mask {what}")


def _exact(rgb: Image.Image, count: int) -> bool:
    reduced = rgb.quantize(count, dither=Image.Dither.NONE).convert("RGB")
    return bool((np.asarray(reduced) == np.asarray(rgb)).all())


def _decoded(data: bytes, what: str) -> NDArray:
    with opened_image(data, what) as image:
        return np.asarray(image.convert("RGB"))
