"""The caption grammar: English out, requirements in, and splits that do not leak."""

from __future__ import annotations

import numpy as np
import pytest

from steer_shapes.captions import SPLITS, rephrase, sample_requirements, sample_training, split_of
from steer_shapes.grammar import CATEGORIES, Phrase, PromptError, Relation, parse_prompt


@pytest.mark.parametrize("category", CATEGORIES)
def test_sentences_are_read_back(category: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        requirements = sample_requirements(category, rng)
        assert requirements.category == category
        assert parse_prompt(requirements.text()) == requirements
        assert parse_prompt(f"  {requirements.text().upper()}. ") == requirements


def test_english() -> None:
    assert parse_prompt("An orange star").phrases == (Phrase("star", "orange"),)
    assert Phrase("cross", None, "large", "dotted", 3).text() == "three large dotted crosses"
    assert Phrase("circle", "orange").text() == "an orange circle"
    both = parse_prompt("a red star to the left of a blue circle and above a square")
    assert both.relations == (Relation(0, "left", 1), Relation(0, "above", 2))
    assert both.category == "complex" and both.total == 3
    assert parse_prompt("two red stars and a circle").category == "numeracy"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "red circle",
        "a circle red",
        "five circles",
        "two circle",
        "a circles",
        "a circle, a star",
        "a circle above",
        "two circles above a star",
        "a star above a circle and a cross",
        "three circles and two stars",
        "a star, a circle, a cross and a square",
        "a photo of a red circle",
    ],
)
def test_other_sentences_are_refused_by_name(text: str) -> None:
    with pytest.raises(PromptError) as caught:
        parse_prompt(text)
    assert repr(text) in str(caught.value)


def test_splits_are_disjoint_and_training_keeps_to_its_own() -> None:
    rng = np.random.default_rng(2)
    for split in SPLITS:
        for category in CATEGORIES:
            assert split_of(sample_requirements(category, rng, split).text()) == split
    for _ in range(500):
        requirements = sample_training(rng)
        assert split_of(requirements.text()) == "train"
        assert split_of(rephrase(requirements, rng, "train").text()) == "train"


def test_rephrasing_keeps_the_meaning() -> None:
    rng = np.random.default_rng(3)
    asked = parse_prompt("a red star to the left of a blue circle")
    texts = {rephrase(asked, rng, split_of(asked.text())).text() for _ in range(30)}
    assert texts <= {asked.text(), "a blue circle to the right of a red star"}
    assert parse_prompt("a blue circle to the right of a red star").relations[0].kind == "right"
