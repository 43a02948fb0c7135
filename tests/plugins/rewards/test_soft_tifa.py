"""``soft-tifa`` and ``dsg``: questions of a prompt's row, answered by a real model of transformers of tiny size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.reward_models import llava_folder

from steer import Prompt, SteerError
from steer.testing import check_reward
from steer_rewards.graph import geometric_mean, graph_of, pairs_of, spellings, with_dependencies
from steer_rewards.soft_tifa import Dsg, DsgOptions, SoftTifa, SoftTifaOptions

PAIRS = [["How many circle ?", "two"], ["Does this show a red square ?", "Yes"], ["Does a circle show ?", "Yes"]]
PROMPTS = [
    Prompt("two circle and a red square", metadata={"vqa_list": PAIRS}),
    Prompt("a blue square", metadata={"vqa_list": PAIRS[1:2]}),
]
GRAPHS = [
    Prompt("a red circle", metadata={
        "questions": [f"Does this show {what} ?" for what in ("a circle", "a red circle", "a square", "blue")],
        "dependencies": [[], [0], [], [2]],
    }),
    Prompt("a square", metadata={"questions": ["Does this show a square ?", "Does this figure show two square ?"]}),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava_folder(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 40, 36, generator=torch.Generator().manual_seed(0))


def alone(folder: Path, image: torch.Tensor, question: str) -> tuple[torch.Tensor, Any]:
    """Return the model's own probabilities of the next token, and its tokenizer."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    text = f"USER: <image>\n{question} ASSISTANT:"
    with torch.no_grad():
        logits = model(**processor(images=image, text=text, return_tensors="pt", do_rescale=False)).logits[0, -1]
    return logits.softmax(0), processor.tokenizer


@pytest.mark.slow
def test_right_answers_have_the_models_own_probabilities(folder: Path, images: torch.Tensor) -> None:
    scores, details = SoftTifa(argument=str(folder)).explained(images, PROMPTS)
    for image, prompt, score, detail in zip(images, PROMPTS, scores.tolist(), details, strict=True):
        expected = []
        for question, answer in prompt.metadata["vqa_list"]:
            chances, tokenizer = alone(folder, image, f"{question} Answer in one word.")
            words = ["two"] if answer == "two" else ["Yes", "yes"]
            expected.append(float(sum(chances[tokenizer.convert_tokens_to_ids(word)] for word in words)))
        assert detail["answers"] == pytest.approx(expected, abs=1e-6)
        assert score == pytest.approx(math.prod(expected) ** (1 / len(expected)), abs=1e-6)
        assert f": {min(expected):.2f}" in detail["reason"]
    mean = SoftTifa(SoftTifaOptions(mean="arithmetic"), argument=str(folder))(images, PROMPTS)
    assert mean.tolist() == pytest.approx([sum(d["answers"]) / len(d["answers"]) for d in details], abs=1e-6)
    assert scores[0] != scores[1]


@pytest.mark.slow
def test_answers_are_yes_if_yes_is_the_likeliest_word(folder: Path, images: torch.Tensor, tmp_path: Path) -> None:
    copy = llava_folder(tmp_path)
    state = load_file(copy / "model.safetensors")
    _, tokenizer = alone(copy, images[0], "")
    yes = tokenizer.convert_tokens_to_ids("Yes")
    (head,) = (name for name in state if name.endswith("lm_head.weight"))
    state[head][:yes] = 0  # now it says yes, or the first word
    state[head][yes + 1 :] = 0
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    dsg = Dsg(DsgOptions(model=str(copy)))
    many = torch.cat([images, images.flip(1), images.roll(1, 1)])
    scores, details = dsg.explained(many, GRAPHS * 3)
    seen = set()
    for image, prompt, score, detail in zip(many, GRAPHS * 3, scores.tolist(), details, strict=True):
        questions, dependencies = graph_of(prompt)
        chances = [alone(copy, image, f"{question}. Please answer 'Yes' or 'No' only.")[0] for question in questions]
        said = [int(row.argmax()) == yes for row in chances]
        assert detail["answers"] == said
        assert score == pytest.approx(sum(with_dependencies(said, dependencies)) / len(said))
        seen.update(said)
    assert seen == {True, False}


@pytest.mark.slow  # dozens of calls
@pytest.mark.parametrize(("reward", "prompts"), [(SoftTifa, PROMPTS), (Dsg, GRAPHS)])
def test_they_keep_the_contract_of_a_reward(reward, prompts, folder: Path, images: torch.Tensor) -> None:
    check_reward(reward(argument=str(folder)), images, prompts, name=reward.name).require()


def test_a_number_counts_in_words_and_digits_and_other_answers_are_yes() -> None:
    assert set(spellings("How many dogs are there?", "two")) == {"two", "Two", " two", " Two", "2", " 2"}
    assert set(spellings("Is there a dog?", "Yes")) == {"Yes", "yes", " yes", " Yes"}
    assert spellings("Is there a dog?", "no") == spellings("Is there a dog?", "Yes")  # as published


def test_a_geometric_mean_of_nothing_is_nothing() -> None:
    assert geometric_mean([0.5, 0.125]) == pytest.approx(0.25) and geometric_mean([0.0, 1.0]) == 0.0
    assert geometric_mean([1e-200] * 3) == pytest.approx(1e-200)


def test_a_no_is_passed_on_to_what_depends_on_it() -> None:
    yes, no = True, False
    assert with_dependencies([no, yes, yes, yes], [[], [0], [1], []]) == [no, no, no, yes]
    assert with_dependencies([yes, yes, no], [[2], [0], []]) == [no, no, no]  # later questions count as they are
    assert with_dependencies([no, yes], [[1], []]) == [no, yes]


@pytest.mark.parametrize(
    "found",
    [None, [], "How many?", [["How many?"]], [["How many?", 2]], [["", "two"]], [["a", "b", "c"]], {"a": "b"}, 3],
)  # fmt: skip
def test_rows_without_pairs_are_refused(found: object) -> None:
    with pytest.raises(SteerError, match=r"^prompt 'a dog': vqa_list is .*, expected pairs of a question and"):
        pairs_of(Prompt("a dog", metadata={} if found is None else {"vqa_list": found}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "questions is None, expected a list of yes-no questions"),
        ({"questions": []}, "questions is"),
        ({"questions": "Is it?"}, "questions is Is it"),
        ({"questions": ["Is it?", " "]}, "questions is"),
        ({"questions": ["Is it?"], "dependencies": [[], []]}, "dependencies is"),
        ({"questions": ["Is it?"], "dependencies": [[1]]}, "dependencies is .* counted from 0"),
        ({"questions": ["Is it?"], "dependencies": [[-1]]}, "dependencies is"),
        ({"questions": ["Is it?"], "dependencies": ["0"]}, "dependencies is"),
        ({"questions": ["Is it?"], "dependencies": 3}, "dependencies is"),
    ],
)  # fmt: skip
def test_rows_without_a_graph_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(SteerError, match=f"^prompt 'a dog': {message}"):
        graph_of(Prompt("a dog", metadata=row))
    assert graph_of(Prompt("x", metadata={"questions": ["Is it?"]})) == (["Is it?"], [()])
