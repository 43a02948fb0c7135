"""Scenes with labels, for training and testing segmenters and classifiers."""

import numpy as np
from numpy.typing import NDArray

from .captions import TRAINING_MIXTURE, sample_requirements
from .layout import LayoutError, sample_scene
from .render import render, render_labels
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
        images = np.empty((count, CANVAS, CANVAS, 3), np.uint8)
        masks = np.empty((count, CANVAS, CANVAS), np.int64)
        for row in range(count):
            scene = _scene(rng, split)
            images[row] = render(scene)
            masks[row] = render_labels(scene, [1 + SHAPES.index(obj.shape) for obj in scene])
        return images, masks


class ShapesClasses:
    """Scenes of one object, labeled with the index of its shape."""

    kind = "classes"
    labels = SHAPES
    colors = ()
    size = (CANVAS, CANVAS)

    def batch(self, rng: np.random.Generator, count: int, split: str = "train") -> tuple[NDArray, NDArray]:
        """Draw scenes from a split: uint8 images ``[N, 64, 64, 3]`` and int64 labels ``[N]``."""
        images = np.empty((count, CANVAS, CANVAS, 3), np.uint8)
        labels = np.empty(count, np.int64)
        for row in range(count):
            scene: Scene = ()
            while len(scene) != 1:
                scene = _scene(rng, split, "color")
            images[row] = render(scene)
            labels[row] = SHAPES.index(scene[0].shape)
        return images, labels


def _scene(rng: np.random.Generator, split: str, category: str | None = None) -> Scene:
    """Draw a scene for a caption of the split, in the given category or else in one of the training mixture."""
    names, shares = list(TRAINING_MIXTURE), list(TRAINING_MIXTURE.values())
    while True:
        chosen = category or str(rng.choice(names, p=shares))
        try:
            return sample_scene(sample_requirements(chosen, rng, split), rng)
        except LayoutError:
            continue  # too crowded to place; rare
