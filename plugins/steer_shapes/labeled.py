"""Scenes with labels, for training and testing segmenters and classifiers."""

import numpy as np
from numpy.typing import NDArray

from .layout import draw_scene
from .render import render_batch, render_labels
from .scenes import CANVAS, SHAPES, Scene

MASK_COLORS = ((0, 0, 0), (255, 64, 64), (64, 255, 64), (64, 64, 255), (255, 255, 64), (64, 255, 255))
"""Colors of a mask: background, then the shapes in order. They are unrelated to the objects' own colors."""


class ShapesMasks:
    """Scenes with masks ``[N, 64, 64]``: 0 for background, else 1 + the index of the shape.

    Attributes:
        labels: names of the labels.
        colors: their colors in a mask.
        size: (height, width).
    """

    kind = "masks"
    labels = ("background", *SHAPES)
    colors = MASK_COLORS
    size = (CANVAS, CANVAS)

    def batch(self, rng: np.random.Generator, count: int, split: str = "train") -> tuple[NDArray, NDArray]:
        """Draw scenes from a split: uint8 images ``[N, 64, 64, 3]`` and int64 masks ``[N, 64, 64]``."""
        scenes = [draw_scene(rng, split=split)[1] for _ in range(count)]
        masks = [render_labels(scene, [1 + SHAPES.index(obj.shape) for obj in scene]) for scene in scenes]
        return render_batch(scenes), np.stack(masks).astype(np.int64)


class ShapesClasses:
    """Scenes of one object, labeled with the index of its shape."""

    kind = "classes"
    labels = SHAPES
    colors = ()
    size = (CANVAS, CANVAS)

    def batch(self, rng: np.random.Generator, count: int, split: str = "train") -> tuple[NDArray, NDArray]:
        """Draw scenes from a split: uint8 images ``[N, 64, 64, 3]`` and int64 labels ``[N]``."""
        scenes: list[Scene] = []
        while len(scenes) < count:
            _, scene = draw_scene(rng, split=split, category="color")
            if len(scene) == 1:
                scenes.append(scene)
        return render_batch(scenes), np.array([SHAPES.index(scene[0].shape) for scene in scenes], np.int64)
