"""Pictures of the result: the mask, the mask over its image, and the agreement of the draws."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from steer.plugin import draw_text
from steer_symmflow.model import SymmFlowConfig

SMALLEST = 256
"""Images are enlarged by whole multiples until no side is below this many pixels …"""
LARGEST = 2048
"""… unless the other side would exceed this many pixels; larger images are scaled down to it."""
BACKGROUND = frozenset({"background", "void", "unlabelled", "unlabeled"})
"""Labels that an overlay leaves untinted."""


def mask_picture(config: SymmFlowConfig, labels: NDArray, size: tuple[int, int]) -> Image.Image:
    """Return a color mask of labels ``[h, w]``, resized to (height, width) without blending.

    ``steer generate --mask`` can draw from it.
    """
    picture = Image.fromarray(np.array(config.colors, np.uint8)[labels])
    return picture.resize(size[::-1], Image.Resampling.NEAREST)


def gray_picture(shares: NDArray, size: tuple[int, int]) -> Image.Image:
    """Return shares ``[h, w]`` in [0, 1] as a gray image, white if all draws agree."""
    return Image.fromarray((shares * 255).round().astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)


def overlay(config: SymmFlowConfig, image: Image.Image, mask: Image.Image, opacity: float = 0.45) -> Image.Image:
    """Return the image tinted with its mask's colors, with white edges and a legend of the labels found."""
    long = max(image.size)
    zoom = min(-(-SMALLEST // min(image.size)), LARGEST // long) if long <= LARGEST else LARGEST / long
    size = (max(1, round(image.width * zoom)), max(1, round(image.height * zoom)))
    resampling = Image.Resampling.NEAREST if zoom >= 1 else Image.Resampling.BOX
    base = np.asarray(image.resize(size, resampling)).astype(np.float32)
    tint = np.asarray(mask.resize(size, Image.Resampling.NEAREST)).astype(np.float32)
    gray = np.repeat(
        base.mean(axis=2, keepdims=True), 3, axis=2
    )  # because the image's own colors would mix with the mask's
    found = [(label, color) for label, color in zip(config.labels, config.colors, strict=True)
             if label not in BACKGROUND and bool((tint == np.array(color)).all(axis=2).any())]  # fmt: skip
    inside = np.zeros(tint.shape[:2], bool)
    for _, color in found:
        inside |= (tint == np.array(color)).all(axis=2)
    edge = np.zeros_like(inside)
    edge[:, 1:] |= (tint[:, 1:] != tint[:, :-1]).any(axis=2)
    edge[1:] |= (tint[1:] != tint[:-1]).any(axis=2)
    strength = np.where(inside, opacity, 0.0)[..., None]
    out = base * (1 - inside[..., None]) + inside[..., None] * ((1 - strength) * gray + strength * tint)
    out[edge] = 255
    return _with_legend(Image.fromarray(out.round().astype(np.uint8)), found)


def _with_legend(picture: Image.Image, found: list[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    line = 16
    sheet = Image.new("RGB", (picture.width, picture.height + line * max(1, len(found)) + 4), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for row, (label, color) in enumerate(found):
        top = picture.height + 4 + row * line
        draw.rectangle((4, top, 14, top + 10), fill=color, outline="black")
        draw_text(draw, (20, top - 1), label, 11, "black")
    if not found:
        draw_text(draw, (4, picture.height + 3), "nothing but background", 11, "black")
    return sheet
