"""What prompts ask for: from GenEval's metadata, or from the text alone."""

from __future__ import annotations

from typing import Any

import pytest

from steer import Prompt, SteerError
from steer_detect.asked import Asked, Want, asked_of, parse
from steer_detect.names import COCO, same, singular


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a bench", Asked((Want("bench"),))),
        ("a photo of four buses", Asked((Want("bus", 4),), (("bus", 5),), counting=True)),
        (
            "a photo of a purple suitcase and an orange pizza",
            Asked((Want("suitcase", color="purple"), Want("pizza", color="orange"))),
        ),
        ("a photo of a red orange", Asked((Want("orange", color="red"),))),
        (
            "a photo of a tv remote right of a hot dog",
            Asked((Want("tv remote", relation="right of", other=1), Want("hot dog"))),
        ),
        (
            "three small wooden chairs on top of a table",
            Asked((Want("chair", 3, relation="above", other=1), Want("table")), (("chair", 4),)),
        ),
        ("two teal foxes", Asked((Want("fox", 2, "teal"),), (("fox", 3),), counting=True)),
        ("skis and scissors", Asked((Want("skis"), Want("scissors")))),
    ],
)
def test_texts(text: str, expected: Asked) -> None:
    assert parse(text) == expected == asked_of(Prompt(text))


def test_metadata_go_before_the_text() -> None:
    metadata = {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 2.0, "position": ["below", 0]}],
        "exclude": [{"class": "cat", "count": 2}],
    }
    asked = asked_of(Prompt("a bear", metadata=metadata))
    assert asked == Asked((Want("cat"), Want("dog", 2, relation="below", other=0)), (("cat", 2),))
    assert asked.names == ("cat", "dog")
    assert asked_of(Prompt("a bear", metadata={**metadata, "tag": "counting"})).counting


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"include": "dog"}, r"include is 'dog', expected a list as \[\{\"class\": \"dog\", \"count\": 1\}\]"),
        ({"include": ["dog"]}, "expected a list as"),
        ({"include": []}, "its include is empty; list at least one object, or leave it out"),
        ({"include": [{"count": 1}]}, "an item of include has the class 'None', expected a name"),
        ({"include": [{"class": "dog", "count": 0}]}, r"'dog' of include has the count 0, expected 1\.\.100"),
        ({"include": [{"class": "dog", "count": True}]}, "has the count True"),
        ({"include": [{"class": "dog", "color": 3}]}, "'dog' has the color 3, expected a name such as 'red'"),
        (
            {"include": [{"class": "dog", "position": ["near", 0]}]},
            r"position \"\['near', 0\]\", expected a relation \(left",
        ),
        ({"include": [{"class": "dog", "position": ["above", 1]}]}, "the place of the other object in include"),
        ({"include": [{"class": "dog", "position": 1}]}, r"as \['left of', 0\]"),
        ({"include": [{"class": "dog"}], "exclude": [{"class": "dog", "count": "2"}]}, "of exclude has the count '2'"),
    ],
)
def test_odd_metadata_name_the_prompt(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(SteerError, match=f"prompt 'a bear': .*{message}"):
        asked_of(Prompt("a bear", metadata=metadata))


def test_a_text_without_objects_says_what_helps() -> None:
    with pytest.raises(SteerError, match="prompt 'masterpiece, 8k' names no object to detect; give it include"):
        asked_of("masterpiece, 8k")


def test_names_are_compared_without_spelling_and_have_a_singular() -> None:
    assert same("TV-monitor") == same("tvmonitor") == same("tv") and same("Potted_Plant") == same("pottedplant")
    assert len({same(name) for name in COCO}) == len(COCO) == 80
    plurals = {
        "buses": "bus", "benches": "bench", "knives": "knife", "people": "person", "broccolis": "broccoli",
        "cherries": "cherry", "teddy bears": "teddy bear", "glass": "glass", "skis": "skis", "boxes": "box",
    }  # fmt: skip
    assert {name: singular(name) for name in plurals} == plurals
