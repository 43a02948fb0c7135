"""Questions about prompts: rules over text, checked against prompts whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer import Prompt, SteerError
from steer_rewards.phrases import find_things
from steer_rewards.questions import as_question, given_questions, parse_phrases, parse_questions, whole
from steer_shapes.grammar import parse_prompt

PROMPTS = Path(__file__).parents[3] / "prompts"


@pytest.mark.parametrize(
    ("prompt", "questions"),
    [
        (
            "a red bear and a blue car to the left of a tree",
            [
                "is there a red bear in the image?",
                "is there a blue car in the image?",
                "is the blue car to the left of the tree?",
                "is there a tree in the image?",
            ],
        ),
        (
            "three cats on a wooden table",
            [
                "are there three cats in the image?",
                "are the three cats on the wooden table?",
                "is there a wooden table in the image?",
            ],
        ),
        (
            "a dog wearing a blue hat and riding a bike",
            [
                "is there a dog in the image?",
                "is the dog wearing a blue hat?",
                "is the dog riding a bike?",
                "is there a blue hat in the image?",
                "is there a bike in the image?",
            ],
        ),
        (
            "The car is red and the bear is very big.",
            ["is the car in the image?", "is the car red?", "is the bear in the image?", "is the bear big?"],
        ),
        (
            "there is a man with a red hat",
            [
                "is there a man in the image?",
                "does the man have a red hat?",
                "is there a red hat in the image?",
            ],
        ),
        (
            "a cube on top of a sphere on top of a cylinder",
            [
                "is there a cube in the image?",
                "is the cube on top of the sphere?",
                "is there a sphere in the image?",
                "is the sphere on top of the cylinder?",
                "is there a cylinder in the image?",
            ],
        ),
        ("a dog running", ["is there a dog in the image?", "is the dog running?"]),
        ("the Eiffel Tower at night", ["is the eiffel tower in the image?", "is the eiffel tower at night?"]),
    ],
)
def test_things_attributes_counts_and_relations_are_asked_for(prompt: str, questions: list[str]) -> None:
    assert parse_questions(prompt) == questions


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a red and blue bird", ["a red and blue bird?"]),
        ("a red and a blue bird", ["a red bird?", "a blue bird?"]),
        ("an orange and a green apple", ["an orange?", "a green apple?"]),
        ("a big, red ball", ["a big red ball?"]),
        ("red apples, green pears and bananas", ["red apples?", "green pears?", "bananas?"]),
        ("a bowl of fruit next to a bottle of wine", ["a bowl of fruit?", "a bottle of wine?"]),
        ("a photo of a cat", ["a cat?"]),
        ("an oil painting of two boats", ["an oil painting?", "two boats?"]),
        ("a group of three people on the left", ["three people?"]),
        ("a man without a hat and with no shoes", ["a man?"]),
        ("masterpiece, best quality, a girl with long hair, 8k", ["a girl?", "long hair?"]),
        ("a running dog and a building", ["a running dog?", "a building?"]),
        ("a fluffy towel and a rubber tire", ["a fluffy towel?", "a rubber tire?"]),
    ],
)
def test_noun_phrases_are_kept_whole(prompt: str, phrases: list[str]) -> None:
    assert parse_phrases(prompt) == phrases


@pytest.mark.parametrize("prompt", ["一只红色的熊", "!!!", "five", "an image with no text", "of", "and, and", "it is"])
def test_a_prompt_without_content_is_asked_about_as_a_whole(prompt: str) -> None:
    assert parse_questions(prompt) == parse_phrases(prompt) == [whole(prompt)]
    assert whole(prompt).startswith("does this image show ")


@pytest.mark.parametrize("file", ["shapes.jsonl", "shapes-tune.jsonl", "shapes-eval.jsonl"])
def test_on_the_embedded_prompts_things_and_relations_are_the_grammars(file: str) -> None:
    for line in (PROMPTS / file).read_text().splitlines():
        prompt = json.loads(line)["prompt"]
        truth = parse_prompt(prompt)
        things = find_things(prompt)
        assert [thing.text for thing in things] == [phrase.text() for phrase in truth.phrases], prompt
        asked = [(number, said) for number, thing in enumerate(things) for said in thing.said]
        assert len(asked) == len(truth.relations), prompt
        for (number, said), relation in zip(asked, truth.relations, strict=True):
            assert number == relation.subject, prompt
            assert said.endswith(things[relation.other].definite), prompt


@pytest.mark.parametrize(
    ("assertion", "question"),
    [
        ("a red bear", "is there a red bear in the image?"),
        ("the bear is red.", "is the bear red?"),
        ("there are two cars", "are there two cars in the image?"),
        ("the dog chases the cat", "is the dog chasing the cat?"),
        ("a red bear on a table", "is the red bear on the table?"),
        ("is there a bear?", "is there a bear?"),
        ("a cat and a dog", "does this image show a cat and a dog?"),
    ],
)
def test_assertions_become_questions(assertion: str, question: str) -> None:
    assert as_question(assertion) == question


def test_metadata_goes_before_the_rules() -> None:
    assert given_questions("a red bear") is None
    assert given_questions(Prompt("a red bear", metadata={"other": 1})) is None
    assert given_questions(Prompt("x", metadata={"questions": [" is it red? ", "is it red?", "a bear?"]})) == [
        "is it red?", "a bear?",
    ]  # fmt: skip
    assert given_questions(Prompt("x", metadata={"assertions": ["a bear"]})) == ["is there a bear in the image?"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"questions": "is it red?"}, r"'a bear' \(id b1\): got str as 'questions', expected a list of texts"),
        ({"questions": {"q": 1}}, "got dict as 'questions'"),
        ({"questions": []}, "'questions' is an empty list"),
        ({"questions": ["a bear?", 3]}, "'questions' holds 3"),
        ({"assertions": ["a bear", " "]}, "'assertions' holds ' '"),
    ],
)
def test_metadata_of_a_wrong_type_is_one_clear_error(metadata: dict, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        given_questions(Prompt("a bear", id="b1", metadata=metadata))
