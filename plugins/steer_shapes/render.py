"""Draw scenes with 4x supersampling, for smooth edges."""

from collections.abc import Sequence
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from .scenes import ACCENT, BACKGROUND, CANVAS, PALETTE, Scene, SceneObject

SUPERSAMPLING = 4
STRIPE_PERIOD = 6.0
"""Distance between stripes, in pixels; half of it is white."""
DOT_RADIUS = 1.7
DOT_PITCH = (6.4, 4.4)
"""Distance between dots in a row and between rows, in pixels; every other row is shifted by half the distance."""


def _star_outline() -> tuple[tuple[float, float], ...]:
    """Return a five-pointed star scaled to its bounding box."""
    points = []
    for corner in range(10):
        length = 1.0 if corner % 2 == 0 else 0.46
        angle = pi * corner / 5
        points.append((length * sin(angle), -length * cos(angle)))
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    middle = (top + bottom) / 2
    widest = max(x for x, _ in points)
    return tuple((x / widest, (y - middle) / widest) for x, y in points)


_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.94, -0.94), (0.94, -0.94), (0.94, 0.94), (-0.94, 0.94)),
    "triangle": ((0.0, -0.94), (1.0, 0.94), (-1.0, 0.94)),
    "star": _star_outline(),
    "cross": (
        (-0.34, -1.0), (0.34, -1.0), (0.34, -0.34), (1.0, -0.34), (1.0, 0.34), (0.34, 0.34),
        (0.34, 1.0), (-0.34, 1.0), (-0.34, 0.34), (-1.0, 0.34), (-1.0, -0.34), (-0.34, -0.34),
    ),
}  # fmt: skip
"""Corners in units of the radius, about the center of the bounding box."""


def _draw_shape(draw: ImageDraw.ImageDraw, obj: SceneObject, scale: float, fill: int | tuple[int, int, int]) -> None:
    cx, cy, radius = obj.cx * scale, obj.cy * scale, obj.radius * scale
    if obj.shape == "circle":
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=fill)
    else:
        corners = [(cx + radius * x, cy + radius * y) for x, y in _OUTLINES[obj.shape]]
        draw.polygon(corners, fill=fill)


def _draw_accents(draw: ImageDraw.ImageDraw, obj: SceneObject, scale: float) -> None:
    """Draw stripes or dots over an object's bounding box, relative to its center."""
    reach = obj.radius + STRIPE_PERIOD
    if obj.texture == "striped":
        # The middle keeps its color: a white band there would hide the arms of a small cross.
        for step in range(-4, 4):
            y = obj.cy + (step + 0.5) * STRIPE_PERIOD
            top, bottom = y - STRIPE_PERIOD / 4, y + STRIPE_PERIOD / 4
            box = ((obj.cx - reach) * scale, top * scale, (obj.cx + reach) * scale, bottom * scale)
            draw.rectangle(box, fill=255)
        return
    across, down = DOT_PITCH
    for row in range(-4, 5):
        shift = across / 2 if row % 2 else 0.0
        for column in range(-4, 5):
            x, y = obj.cx + column * across + shift, obj.cy + row * down
            box = (x - DOT_RADIUS, y - DOT_RADIUS, x + DOT_RADIUS, y + DOT_RADIUS)
            draw.ellipse([edge * scale for edge in box], fill=255)


def render(scene: Scene, size: int = CANVAS) -> NDArray[np.uint8]:
    """Draw a scene.

    Returns:
        uint8 array [size, size, 3]. At sizes other than 64, the scene is scaled.
    """
    side = size * SUPERSAMPLING
    scale = side / CANVAS
    image = Image.new("RGB", (side, side), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for obj in scene:
        _draw_shape(draw, obj, scale, PALETTE[obj.color])
        if obj.texture == "plain":
            continue
        inside, accents = Image.new("L", (side, side)), Image.new("L", (side, side))
        _draw_shape(ImageDraw.Draw(inside), obj, scale, 255)
        _draw_accents(ImageDraw.Draw(accents), obj, scale)
        image.paste(ACCENT, mask=ImageChops.multiply(inside, accents))
    return np.asarray(image.reduce(SUPERSAMPLING))


def render_labels(scene: Scene, labels: Sequence[int], size: int = CANVAS) -> NDArray[np.uint8]:
    """Label each pixel with the object that covers most of it, if it covers more than the background.

    Args:
        labels: one number in 1..255 per object.

    Returns:
        uint8 array [size, size]; 0 is background.
    """
    side = size * SUPERSAMPLING
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    for obj, label in zip(scene, labels, strict=True):
        _draw_shape(draw, obj, side / CANVAS, label)
    fine = np.asarray(image)
    values = np.unique(fine)
    blocks = fine.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING)
    cover = np.stack([(blocks == value).sum(axis=(1, 3)) for value in values])
    labels_of: NDArray[np.uint8] = values[cover.argmax(axis=0)]
    return labels_of


def render_batch(scenes: Sequence[Scene], size: int = CANVAS) -> NDArray[np.uint8]:
    """Draw scenes into one uint8 array [N, size, size, 3]."""
    return np.stack([render(scene, size) for scene in scenes])
