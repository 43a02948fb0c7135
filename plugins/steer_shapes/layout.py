"""Scenes that meet given requirements; open attributes and positions are random."""

import numpy as np
from numpy.typing import NDArray

from .captions import sample_requirements, sample_training
from .grammar import Phrase, Requirements
from .scenes import CANVAS, COLORS, RADII, SIZES, TEXTURES, Scene, SceneObject, offset_along

GAP = 4.0
"""Least distance between the bounding boxes of two objects, in pixels."""
EDGE = 1.5
"""Least distance of a bounding box from the edge of the canvas, in pixels."""
PLAIN_SHARE = 0.85
"""Probability that an object is plain if the prompt names no texture."""
_CANDIDATES = 64
_ROUNDS = 12
_LAST_ROUNDS = 200


class LayoutError(ValueError):
    """No scene was found for the requirements, for example because relations contradict each other."""


def sample_scene(requirements: Requirements, rng: np.random.Generator, plain_share: float = PLAIN_SHARE) -> Scene:
    """Draw a scene that meets ``requirements`` and has no further objects.

    Objects are in the order of the phrases.

    Raises:
        LayoutError: if no placement is found.
    """
    phrases = [phrase for phrase in requirements.phrases for _ in range(phrase.count)]
    relations = [(r.subject, r.kind, r.other) for r in requirements.relations]
    # Many large objects seldom fit; objects of open size are small on the second attempt.
    for shrink in (False, True):
        looks = [_complete(phrase, rng, shrink, plain_share) for phrase in phrases]
        radii = np.array([rng.uniform(*RADII[size]) for _, size, _ in looks])
        centers = _place(radii, relations, rng, _LAST_ROUNDS if shrink else _ROUNDS)
        if centers is not None:
            return tuple(
                SceneObject(phrase.shape, color, size, texture, float(x), float(y), float(radius))
                for phrase, (color, size, texture), (x, y), radius in zip(phrases, looks, centers, radii, strict=True)
            )
    raise LayoutError(f"found no place for the objects of {requirements.text()!r}")


def draw_scene(
    rng: np.random.Generator, plain_share: float = PLAIN_SHARE, *, split: str = "train", category: str | None = None
) -> tuple[Requirements, Scene]:
    """Draw requirements of a split, of one category or of the training mixture, and a scene that meets them."""
    while True:
        asked = sample_training(rng, split) if category is None else sample_requirements(category, rng, split)
        try:
            return asked, sample_scene(asked, rng, plain_share)
        except LayoutError:
            continue  # too crowded to place; rare


def _complete(phrase: Phrase, rng: np.random.Generator, shrink: bool, plain_share: float) -> tuple[str, str, str]:
    """Return (color, size, texture) of one object of a phrase; open attributes are drawn."""
    color = phrase.color or COLORS[rng.integers(len(COLORS))]
    size = phrase.size or ("small" if shrink else SIZES[rng.integers(len(SIZES))])
    texture = phrase.texture
    if texture is None:
        texture = "plain" if rng.random() < plain_share else TEXTURES[rng.integers(1, 3)]
    return color, size, texture


def _place(
    radii: NDArray[np.float64], relations: list[tuple[int, str, int]], rng: np.random.Generator, rounds: int
) -> NDArray[np.float64] | None:
    """Return centers [n, 2] without overlap for which all relations hold clearly, or None."""
    count = len(radii)
    low, high = radii + EDGE, CANVAS - radii - EDGE
    first, second = np.triu_indices(count, 1)
    reach = radii[first] + radii[second] + GAP
    for _ in range(rounds):
        shape = (_CANDIDATES, count, 2)
        centers = rng.uniform(low[None, :, None], high[None, :, None], shape)
        if count == 4:
            # Four independent positions nearly always overlap, so each quarter gets one object.
            centers = _quarters(radii, rng)
        way = np.abs(centers[:, first] - centers[:, second])
        valid = (way >= reach[:, None]).any(-1).all(-1)
        for subject, kind, other in relations:
            dx, dy = (centers[:, subject] - centers[:, other]).T
            along, across = _along(kind, dx, dy)
            valid &= (along >= radii[subject] + radii[other] + GAP) & (across <= 0.6 * along)
        if valid.any():
            chosen: NDArray[np.float64] = centers[int(valid.argmax())]
            return chosen
    return None


def _along(
    kind: str, dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``offset_along`` for arrays: the relation determines the sign and the axis."""
    sign_x, _ = offset_along(kind, 1.0, 0.0)
    sign_y, _ = offset_along(kind, 0.0, 1.0)
    return sign_x * dx + sign_y * dy, np.abs(sign_y * dx) + np.abs(sign_x * dy)


def _quarters(radii: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return candidates [K, 4, 2] with one object near each quarter of the canvas, in random order."""
    half = CANVAS / 2
    order = rng.permuted(np.tile(np.arange(4), (_CANDIDATES, 1)), axis=1)
    corner = np.stack([order % 2, order // 2], -1) * half
    slack = np.maximum(half - 2 * radii - GAP / 2 - EDGE, 0)[None, :, None]
    jitter = rng.uniform(0, 1, corner.shape) * slack
    start = np.where(corner == 0, EDGE, GAP / 2)
    return corner + start + radii[None, :, None] + jitter
