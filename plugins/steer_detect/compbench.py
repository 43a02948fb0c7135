"""T2I-CompBench++'s scores over detections (Huang et al. 2025, arXiv 2307.06350): 2D and 3D relations, and numbers.

Pure functions of detections, and of a map of depth. The numbers are those of the published evaluation, which looks at
images whose shorter side has 479 pixels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steer_detect.asked import Want
from steer_detect.detection import Box, Detection, overlap
from steer_detect.names import singular

SIDE = 479
"""Shorter side in pixels of images in the published evaluation, to which its distance relates."""
NEAR = 150
"""Most distance in pixels along one axis of objects that are next to each other."""
APART, BEHIND = 0.1, 0.5
"""Most intersection over union of objects beside each other; least of one in front of another for the full score."""
LEAST = 0.5
"""A 2D score below this counts as nothing."""
SAME = 0.9
"""Share of either box, or intersection over union, from which two detections of a class are one object."""

FLAT = (
    "on side of", "next to", "near", "on the left of", "on the right of", "on the bottom of", "on the top of",
    "on top of",
)  # fmt: skip
"""Relations in the plane; the first that a prompt holds counts."""
DEEP = ("in front of", "behind", "hidden")
"""Relations in space."""
PEOPLE = {"girl": "person", "boy": "person", "man": "person", "woman": "person"}
ALIASES = {**PEOPLE, "ship": "boat", "telivision": "tv", "goldfish": "fish", "painting": "picture"}
"""Names that the published evaluation looks for instead."""


def relation_of(text: str, relations: Sequence[str]) -> str | None:
    """Return the relation that a prompt holds, if it does."""
    return next((relation for relation in relations if relation in text), None)


def flat_score(relation: str | None, first: Detection | None, second: Detection | None, side: int = SIDE) -> float:
    """Return the 2D score of two objects, the surest ones of their classes; ``None`` for one that is not there.

    Half of it is the detector's confidence in both, half the relation; less than :data:`LEAST` is 0.

    Args:
        relation: one of :data:`FLAT`. ``"on top of"`` never holds, as in the published evaluation, which does not know
            it though it looks for it.
        first: the object before the relation.
        second: the one after it.
        side: shorter side of the image in pixels.
    """
    score = _confidence(first, second)
    if first is not None and second is not None:
        score += _flat(relation, first.box, second.box, SIDE / side) / 2
    return score if score >= LEAST else 0.0


def deep_score(
    relation: str | None, first: Detection | None, second: Detection | None, depth: NDArray[np.floating]
) -> float:
    """Return the 3D score of two objects, the surest ones of their classes.

    Args:
        relation: one of :data:`DEEP`.
        first: the object before the relation.
        second: the one after it.
        depth: ``[H, W]`` of the image, larger where it is nearer. The published evaluation takes rows for columns
            here, which this does not.
    """
    score = _confidence(first, second)
    if first is None or second is None or relation is None:
        return score
    shared = _shared(first.box, second.box)
    nearer = _mean(depth, first.box) - _mean(depth, second.box)
    holds = nearer > 0 if relation == "in front of" else nearer < 0
    if holds and shared != BEHIND:
        score += min(1.0, shared / BEHIND) / 2
    return score


def number_score(wanted: Sequence[tuple[str, int]], found: Sequence[Detection]) -> float:
    """Return the score for numbers: half for a class that is there, half for its right number; averaged over classes.

    Args:
        wanted: classes, and how many of each.
        found: detections, the surest first; those of a class that nearly coincide count once.
    """
    distinct: list[Detection] = []
    for one in found:
        if not any(one.name == other.name and _same(one.box, other.box) for other in distinct):
            distinct.append(one)
    there = [one.name for one in distinct]
    score = 0.0
    for name, count in wanted:
        if name in there:
            score += 0.5 + 0.5 * (there.count(name) == count)
    return score / len(wanted)


def wanted_of(wants: Sequence[Want]) -> list[tuple[str, int]]:
    """Return classes and numbers of what a prompt asks for, by the names that detectors know."""
    return [(ALIASES.get(want.name, want.name), want.count) for want in wants]


def ends_of(text: str, relation: str | None, wants: Sequence[Want]) -> tuple[str, str]:
    """Return the classes before and after a relation: in a prompt of two objects the first and the last."""
    first, last = wants[0], wants[-1]
    if relation is not None and len(wants) > 2:
        before = text.lower().partition(relation)[0]
        place = sum(_mentions(before, want) for want in wants)
        if 0 < place < len(wants):
            first, last = wants[place - 1], wants[place]
    return PEOPLE.get(first.name, first.name), PEOPLE.get(last.name, last.name)


def _mentions(text: str, want: Want) -> bool:
    return any(singular(word) == want.name.split(" ")[-1] for word in text.split())


def _confidence(first: Detection | None, second: Detection | None) -> float:
    return sum(0.25 * one.score for one in (first, second) if one is not None)


def _flat(relation: str | None, first: Box, second: Box, scale: float) -> float:
    a, b = (np.asarray(box, dtype=np.float64) * scale for box in (first, second))
    x, y = ((b[:2] + b[2:]) - (a[:2] + a[2:])) / 2
    if relation in ("next to", "on side of", "near"):
        return 1.0 if min(abs(x), abs(y)) < NEAR else float(NEAR / max(abs(x), abs(y)))
    towards = {"on the right of": -x, "on the left of": x, "on the bottom of": -y, "on the top of": y}
    along, across = (abs(x), abs(y)) if relation in ("on the right of", "on the left of") else (abs(y), abs(x))
    if relation not in towards or towards[relation] <= 0 or along <= across:
        return 0.0
    shared = _shared(first, second)
    return 1.0 if shared < APART else APART / shared


def _shared(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes as areas of the plane."""
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


def _same(first: Box, second: Box) -> bool:
    """Whether two boxes coincide, or one is inside the other, up to a tenth; both count their last pixels."""
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    inside = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (first, second)]
    return overlap(first, second) > SAME or any(inside / area > SAME for area in areas)


def _mean(depth: NDArray[np.floating], box: Box) -> float:
    height, width = depth.shape
    left, top = (min(max(int(edge), 0), size - 1) for edge, size in zip(box[:2], (width, height), strict=True))
    right, bottom = max(int(box[2]), left + 1), max(int(box[3]), top + 1)
    return float(depth[top:bottom, left:right].mean())


def surest(found: Mapping[str, Sequence[Detection]], name: str) -> Detection | None:
    """Return the surest detection of a class, if there is one."""
    return next(iter(found.get(name, ())), None)
