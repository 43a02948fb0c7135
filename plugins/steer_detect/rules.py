"""GenEval's rules (Ghosh et al. 2023, arXiv 2310.11513): does an image show what was asked, given its detections?

Pure functions of detections. The numbers are those of the published evaluation.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steer_detect.asked import Asked, Want
from steer_detect.detection import Box, Detection

MOST = 16
"""Detections of a class that count."""
MARGIN = 0.1
"""Share of both objects' sizes by which their centers must differ before one is beside the other."""
BESIDE = 0.5
"""Least share of the distance along an axis: an object up to 60 degrees off is still left, right, above or below."""

Found = Mapping[str, Sequence[Detection]]
"""The detections that count by class, the surest first."""
ColorsOf = Callable[[Sequence[Detection], Want], Sequence[str]]
"""Names the colors of detections of a wanted class."""


def relations(first: Box, second: Box) -> frozenset[str]:
    """Return where the first box is, seen from the second: up to two of left of, right of, above and below."""
    a, b = (np.asarray(box, dtype=np.float32).reshape(2, 2) for box in (first, second))  # as the published evaluation
    offset = a.mean(axis=0) - b.mean(axis=0)
    sizes = np.abs(a[1] - a[0]) + np.abs(b[1] - b[0])
    beyond = np.maximum(np.abs(offset) - MARGIN * sizes, 0) * np.sign(offset)
    if (np.abs(beyond) < 1e-3).all():
        return frozenset()
    x, y = beyond / np.linalg.norm(offset)
    said = {"left of": x < -BESIDE, "right of": x > BESIDE, "above": y < -BESIDE, "below": y > BESIDE}
    return frozenset(name for name, holds in said.items() if holds)


def faults(asked: Asked, found: Found, colors_of: ColorsOf) -> list[str]:
    """Return what is wrong with an image, in words; it is right if nothing is.

    Of each class, the surest detections are looked at, as many as are wanted. All of them must have the color, and
    all must stand as asked to all of the other class. A class of which some are missing or of another color is no
    place to stand beside. More than wanted are no fault, unless the prompt excludes them, as counting prompts do.
    """
    wrong: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for want in asked.include:
        group = found.get(want.name, ())[: want.count]
        fault = _missing(want, group) or _colored(want, group, colors_of)
        wrong += [fault] if fault else []
        groups.append(None if fault else group)
    for want, there in zip(asked.include, groups, strict=True):
        if want.relation is not None and there is not None:
            fault = _placed(want, there, asked.include[want.other].name, groups[want.other])
            wrong += [fault] if fault else []
    for name, count in asked.exclude:
        if len(found.get(name, ())) >= count:
            wrong.append(f"{len(found[name])} {name}, fewer than {count} asked")
    return wrong


def _missing(want: Want, group: Sequence[Detection]) -> str:
    return f"{len(group)} {want.name}, {want.count} asked" if len(group) < want.count else ""


def _colored(want: Want, group: Sequence[Detection], colors_of: ColorsOf) -> str:
    if want.color is None:
        return ""
    colors = colors_of(group, want)
    return "" if all(color == want.color for color in colors) else f"{want.name} {', '.join(colors)}, not {want.color}"


def _placed(want: Want, group: Sequence[Detection], other: str, others: Sequence[Detection] | None) -> str:
    if others is None:
        return f"no {other} for {want.name} to be {want.relation}"
    for one in group:
        for target in others:
            where = relations(one.box, target.box)
            if want.relation not in where:
                return f"{want.name} {' and '.join(sorted(where)) or 'at'} {other}, not {want.relation}"
    return ""
