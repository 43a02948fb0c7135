"""GenEval's rules: by hand from the published definition, and 500 verdicts of the published evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.detected import cases

from steer import Prompt
from steer_detect.asked import asked_of
from steer_detect.detection import Detection, kept, overlap
from steer_detect.rules import MOST, faults, relations

PUBLISHED = int(
    "1d6acf4c07db0d7ca20c33138864963ce4d31970da0a54164f5b674f99d60d618f189d8fa9610f36bcd79903d8ce44b3bd37234f721a2728ea"
    "fda9d2d834d3", 16,
)  # fmt: skip
"""Verdicts on ``cases(500)``, a bit each after a leading 1: djghosh13/geneval at af4902f, run beside these rules with
the same detections and colors in place of its detector and its CLIP."""


def judged(case: dict[str, Any]) -> list[str]:
    found = [Detection(one["class"], one["score"], tuple(one["box"])) for one in case["objects"]]
    color = {id(one): made["color"] for one, made in zip(found, case["objects"], strict=True)}
    asked = asked_of(Prompt(case["metadata"]["prompt"], metadata=case["metadata"]))
    there = kept(found, 0.9 if asked.counting else 0.3, most=MOST)
    return faults(asked, there, lambda group, want: [color[id(one)] for one in group])


def test_500_verdicts_are_those_of_the_published_evaluation() -> None:
    verdicts = [not judged(case) for case in cases(500)]
    assert verdicts == [bit == "1" for bit in f"{PUBLISHED:b}"[1:]]
    by_tag = {
        tag: {v for v, c in zip(verdicts, cases(500), strict=True) if c["metadata"]["tag"] == tag} for tag in TAGS
    }
    assert all(both == {True, False} for both in by_tag.values())


TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
LEFT, RIGHT, LOW = (0, 0, 20, 20), (100, 0, 120, 20), (0, 100, 20, 120)


def verdict(include: Sequence[dict[str, Any]], *objects: tuple[Any, ...], **more: Any) -> list[str]:
    """Judge objects (class, score, box, color)."""
    made = [{"class": c, "score": s, "box": b, "color": rest[0] if rest else "red"} for c, s, b, *rest in objects]
    return judged({"metadata": {"prompt": "made up", "include": include, **more}, "objects": made})


def test_objects_must_all_be_there() -> None:
    cat, dog = {"class": "cat", "count": 1}, {"class": "dog", "count": 1}
    assert not verdict([cat], ("cat", 0.4, LEFT))
    assert verdict([cat], ("dog", 0.9, LEFT)) == ["0 cat, 1 asked"]
    assert verdict([cat], ("cat", 0.3, LEFT)) == ["0 cat, 1 asked"]  # a score must be above the threshold
    assert not verdict([cat, dog], ("cat", 0.4, LEFT), ("dog", 0.4, RIGHT), ("cat", 0.4, LOW))  # more are no fault
    assert verdict([cat, dog], ("cat", 0.4, LEFT)) == ["0 dog, 1 asked"]


def test_counted_objects_must_be_sure_and_no_more() -> None:
    include, exclude = [{"class": "cat", "count": 2}], [{"class": "cat", "count": 3}]
    three = [("cat", score, LEFT) for score in (0.95, 0.92, 0.85)]
    assert not verdict(include, *three, exclude=exclude, tag="counting")
    assert verdict(include, *three, exclude=exclude, tag="other") == ["3 cat, fewer than 3 asked"]
    assert verdict(include, *three[1:], exclude=exclude, tag="counting") == ["1 cat, 2 asked"]


def test_the_surest_objects_must_have_the_color() -> None:
    include = [{"class": "cat", "count": 1, "color": "red"}]
    assert not verdict(include, ("cat", 0.9, LEFT, "red"), ("cat", 0.8, RIGHT, "blue"))
    assert verdict(include, ("cat", 0.8, LEFT, "red"), ("cat", 0.9, RIGHT, "blue")) == ["cat blue, not red"]
    two = [{"class": "cat", "count": 2, "color": "red"}]
    assert verdict(two, ("cat", 0.8, LEFT, "red"), ("cat", 0.9, RIGHT, "blue")) == ["cat blue, red, not red"]


def test_a_relation_needs_both_objects_and_the_color_of_the_other() -> None:
    include = [{"class": "cat", "count": 1, "color": "red"}, {"class": "dog", "count": 1, "position": ["left of", 0]}]
    assert not verdict(include, ("cat", 0.9, RIGHT), ("dog", 0.9, LEFT))
    assert verdict(include, ("cat", 0.9, LEFT), ("dog", 0.9, RIGHT)) == ["dog right of cat, not left of"]
    assert verdict(include, ("cat", 0.9, RIGHT, "blue"), ("dog", 0.9, LEFT)) == [
        "cat blue, not red",
        "no cat for dog to be left of",
    ]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (LEFT, RIGHT, {"left of"}),
        (RIGHT, LEFT, {"right of"}),
        (LEFT, LOW, {"above"}),
        (LOW, LEFT, {"below"}),
        (LOW, RIGHT, {"left of", "below"}),
        (LEFT, LEFT, set()),
        ((0, 0, 100, 100), (20, 0, 120, 100), set()),  # apart by a tenth of both widths
        ((0, 0, 100, 100), (100, 0, 200, 100), {"left of"}),
        ((0, 0, 0, 0), (100, 200, 100, 200), {"above"}),  # 63 degrees off the horizontal
        ((0, 0, 0, 0), (100, 170, 100, 170), {"left of", "above"}),
    ],
)
def test_relations_by_centers_and_sizes(first: Any, second: Any, expected: set[str]) -> None:
    assert relations(first, second) == expected


def test_of_equal_scores_the_later_counts_first_and_no_more_than_sixteen() -> None:
    found = [Detection("cat", 0.5, (float(n), 0, n + 1.0, 1)) for n in range(20)]
    there = kept(found, 0.3, most=MOST)["cat"]
    assert [one.box[0] for one in there] == list(range(19, 3, -1))


def test_detections_that_overlap_a_surer_one_are_the_same_object() -> None:
    assert overlap((0, 0, 9, 9), (0, 0, 9, 9)) == 1 and overlap((0, 0, 9, 9), (20, 20, 29, 29)) == 0
    assert overlap((0, 0, 9, 9), (5, 0, 14, 9)) == pytest.approx(1 / 3)
    found = [
        Detection("cat", 0.5, (0, 0, 9, 9)),
        Detection("cat", 0.9, (1, 0, 10, 9)),
        Detection("dog", 0.4, (0, 0, 9, 9)),
    ]
    there = kept(found, 0.3, most=MOST, most_overlap=0.5)
    assert [one.score for one in there["cat"]] == [0.9] and len(there["dog"]) == 1
    assert len(kept(found, 0.3, most=MOST)["cat"]) == 2
