"""Find the objects in an image: the ground truth of the embedded world.

Pixels brighter than the dark background form connected components; each component becomes one
object. Its shape is the template with the largest overlap. Its size comes from its bounding box,
its color from the hues inside, its texture from the white on it. An attribute that cannot be
determined is ``None``; no image raises an error, however noisy.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .render import render
from .scenes import CANVAS, COLORS, PALETTE, SHAPES, SIZE_THRESHOLD, SceneObject

FOREGROUND = 0.42
"""Brightness (largest channel) above which a pixel belongs to an object, including half-covered rims."""
LEAST_AREA = 24
"""Components with fewer pixels are specks, not objects."""
LEAST_OVERLAP = 0.70
"""Least overlap (IoU) with a template that determines a shape."""
LEAST_AGREEMENT = 0.60
"""Least share of an object's chroma that determines its color."""
_GRID = 20
_LEAST_WHITE, _MOST_WHITE = 0.10, 0.75
"""Range of the white share of a textured object; below it is plain, above it the texture is unknown."""
_ROW_SHARE = 0.62
"""Rows explain more than this share of the variance of whiteness for stripes, less for dots."""
_MOST_OBJECTS = 12
"""Further objects, by area, are counted but not described; no prompt asks for so many."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A detected object. ``cx``, ``cy``: center of its bounding box, in pixels at size 64."""

    shape: str | None
    color: str | None
    size: str | None
    texture: str | None
    cx: float
    cy: float
    radius: float


def parse_images(images: Tensor) -> list[list[Detection]]:
    """Find the objects of each image of a batch, float [N, 3, H, W] in [0, 1], largest first.

    Images of other sizes than 64x64 are resized. Values outside [0, 1] are clipped, and NaN
    counts as black.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images [N, 3, H, W], got {list(images.shape)}")
    pixels = images.detach().float().cpu().nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    if pixels.shape[-2:] != (CANVAS, CANVAS) and len(pixels):
        size = (CANVAS, CANVAS)
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return [_parse(array) for array in pixels.permute(0, 2, 3, 1).numpy()]


def _parse(image: NDArray[np.float32]) -> list[Detection]:
    bright, dark = image.max(-1), image.min(-1)
    labels, count = ndimage.label(bright > FOREGROUND)
    if count == 0:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    order = [int(label) for label in np.argsort(-areas) if areas[label] >= LEAST_AREA]
    boxes = ndimage.find_objects(labels)
    found = []
    for rank, label in enumerate(order):
        rows, columns = boxes[label - 1]
        mask = labels[rows, columns] == label
        if rank >= _MOST_OBJECTS:
            found.append(_detection(rows, columns, (None, None, None)))
            continue
        shape = _shape(mask)
        inside = image[rows, columns][mask]
        color = _color(inside - dark[rows, columns][mask][:, None])
        texture = _texture(mask, dark[rows, columns], bright[rows, columns])
        found.append(_detection(rows, columns, (shape, color, texture)))
    return found


def _detection(rows: slice, columns: slice, looks: tuple[str | None, str | None, str | None]) -> Detection:
    shape, color, texture = looks
    height, width = rows.stop - rows.start, columns.stop - columns.start
    radius = max(height, width) / 2
    return Detection(
        shape=shape,
        color=color,
        size="small" if radius < SIZE_THRESHOLD else "large",
        texture=texture,
        cx=(columns.start + columns.stop) / 2,
        cy=(rows.start + rows.stop) / 2,
        radius=radius,
    )


def _normalized(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mask stretched from its bounding box to a fixed grid, [400]."""
    height, width = mask.shape
    steps = np.arange(_GRID) + 0.5
    rows, columns = (steps * height / _GRID).astype(int), (steps * width / _GRID).astype(int)
    return mask[np.ix_(rows, columns)].astype(np.float32).ravel()


@cache
def _templates() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return normalized masks [T, 400] of all shapes at several sizes and positions, and their shapes' indices.

    The renderer draws them, because a small shape on the pixel grid differs from an ideal one.
    """
    masks, owners = [], []
    for owner, shape in enumerate(SHAPES):
        for radius in (7.5, 8.0, 8.5, 11.0, 11.75, 12.5):
            for shift in (0.0, 0.5):
                obj = SceneObject(shape, "red", "large", "plain", 32 + shift, 32 + shift, radius)
                mask = render((obj,)).max(-1) > FOREGROUND * 255
                box = ndimage.find_objects(mask.astype(int))[0]
                masks.append(_normalized(mask[box]))
                owners.append(owner)
    return np.stack(masks), np.array(owners)


def _shape(mask: NDArray[np.bool_]) -> str | None:
    height, width = mask.shape
    if not 0.7 < height / width < 1.43:
        return None
    templates, owners = _templates()
    candidate = _normalized(mask)
    shared = templates @ candidate
    overlap = shared / (templates.sum(1) + candidate.sum() - shared)
    best = int(overlap.argmax())
    return SHAPES[owners[best]] if overlap[best] >= LEAST_OVERLAP else None


@cache
def _hues() -> NDArray[np.float32]:
    """Return the unit directions [8, 3] of the palette without their gray part."""
    colors = np.array([PALETTE[color] for color in COLORS], np.float32)
    chroma = colors - colors.min(1, keepdims=True)
    directions: NDArray[np.float32] = chroma / np.linalg.norm(chroma, axis=1, keepdims=True)
    return directions


def _color(chroma: NDArray[np.float32]) -> str | None:
    """Return the palette color with most votes from the chroma [n, 3] (pixels minus their gray part).

    Blending with white, black or the background does not change the direction of the chroma, so
    rims and textures do not disturb the vote.
    """
    weight = np.linalg.norm(chroma, axis=1)
    if weight.mean() < 0.08:
        return None
    votes = np.bincount((chroma @ _hues().T).argmax(1), weight, len(COLORS))
    best = int(votes.argmax())
    return COLORS[best] if votes[best] >= LEAST_AGREEMENT * votes.sum() else None


def _texture(mask: NDArray[np.bool_], dark: NDArray[np.float32], bright: NDArray[np.float32]) -> str | None:
    """Return plain, striped or dotted, from each pixel's whiteness and its variation by rows."""
    whiteness = np.where(mask, dark / np.maximum(bright, 1e-3), 0.0)
    values = whiteness[mask]
    base = np.percentile(values, 10)
    level = np.clip((whiteness - base) / max(1.0 - base, 1e-3), 0, 1)
    if (level[mask] > 0.5).mean() < _LEAST_WHITE:
        return "plain"
    if level[mask].mean() > _MOST_WHITE:
        return None
    counts = mask.sum(1)
    means = np.where(mask, level, 0).sum(1) / np.maximum(counts, 1)
    total = values.size * level[mask].var()
    between = (counts * (means - level[mask].mean()) ** 2).sum()
    return "striped" if between >= _ROW_SHARE * total else "dotted"
