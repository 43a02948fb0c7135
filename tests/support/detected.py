"""Made-up detections for GenEval's six tasks, with ties and crowds; the same on every machine."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_detect.asked import RELATIONS

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
CLASSES = ("dog", "traffic light", "hot dog", "tv", "orange")
HUES = ("red", "blue", "orange")
SCORES = (0.2, 0.3, 0.35, 0.6, 0.6, 0.85, 0.9, 0.9, 0.95, 0.95, 0.99)
"""Scores repeat, and are often exactly a threshold."""
SURE = (0.85, 0.9, 0.95, 0.95, 0.95, 0.95, 0.99, 0.99, 0.99, 0.99)
"""The same for objects to be counted."""


def cases(count: int) -> list[dict[str, Any]]:
    """Return ``count`` cases: a prompt's metadata, and the objects that a detector found for it."""
    return [_case(number) for number in range(count)]


def _case(number: int) -> dict[str, Any]:
    random = Random(number).random  # the only method whose values no version of Python changes

    def pick(values: Any) -> Any:
        return values[int(random() * len(values))]

    tag = TAGS[number % len(TAGS)]
    first = pick(CLASSES)
    second = pick([name for name in CLASSES if name != first])
    metadata: dict[str, Any] = {"tag": tag, "prompt": "made up"}
    wanted = 1 + int(random() * 4) if tag == "counting" else 1
    include: list[dict[str, Any]] = [{"class": first, "count": wanted}]
    if tag in ("two_object", "position", "color_attr"):
        include.append({"class": second, "count": 1 if random() < 0.8 else 2})
    if tag in ("colors", "color_attr"):
        for item in include:
            item["color"] = pick(HUES)
    if tag == "position":
        include[1]["position"] = [pick(tuple(RELATIONS)), 0]
    metadata["include"] = include
    if tag == "counting":
        metadata["exclude"] = [{"class": first, "count": wanted + 1}]
    objects = []
    for item in include:
        there = max(0, item["count"] + pick((-1, 0, 0, 0, 0, 1, 2, 17)))
        for place in range(there):
            # numpy's sort, by which the published evaluation orders a class, leaves open how ties among more fall
            score = pick(SURE if tag == "counting" else SCORES) - (place / 1024 if there > 16 else 0)
            objects.append(
                {
                    "class": item["class"], "score": score, "box": _box(random, item.get("position")),
                    "color": item["color"] if "color" in item and random() < 0.75 else pick(HUES),
                }
            )  # fmt: skip
    return {"classes": list(CLASSES), "metadata": metadata, "objects": objects}


def _box(random: Any, position: Any) -> list[float]:
    """Return a box on a coarse grid, so that centers, sides and distances are often equal."""
    x, y = (16.0 * int(random() * 16) for _ in "xy")
    width, height = (16.0 * (1 + int(random() * 6)) for _ in "xy")
    if position is not None and random() < 0.7:  # mostly where it should be
        far = {"left of": (-160, 0), "right of": (160, 0), "above": (0, -160), "below": (0, 160)}[position[0]]
        x, y = x + far[0], y + far[1]
    return [x, y, x + width, y + height]


Placed = tuple[float, list[float]]
"""Score and box of an object."""


def pairs(count: int, relations: tuple[str, ...]) -> list[tuple[str, Placed, Placed]]:
    """Return relations between two objects; distances and overlaps are often borderline."""
    found = []
    for number in range(count):
        random = Random(5000 + number).random
        boxes = []
        for _ in "ab":
            x, y = (20.0 * int(random() * 20) for _ in "xy")
            boxes.append([x, y, x + 20 * (1 + int(random() * 8)), y + 20 * (1 + int(random() * 8))])
        first, second = ((0.3 + int(random() * 70) / 100, box) for box in boxes)
        found.append((relations[number % len(relations)], first, second))
    return found


def slope() -> NDArray[np.float64]:
    """Return a map of depth that grows along both axes alike: the published evaluation takes rows for columns."""
    line = np.arange(560.0)
    return line[:, None] + line[None, :]
