"""dist-n of texts: the published evaluation's numbers, and as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.answers import texts

from steer.evaluate.measure.texts import distinct, texts_by_prompt

PUBLISHED = (0.3479379173458121, 0.7003615414799625, 0.6620033353585986)
"""What the evaluation of FK's texts gives for the made-up ones."""


def test_distinct_runs_are_the_published_evaluations() -> None:
    made = texts(12).values()
    assert [np.mean([distinct(rows, n) for rows in made]) for n in (1, 2, 3)] == pytest.approx(PUBLISHED, abs=1e-12)


def test_distinct_runs_by_hand() -> None:
    assert distinct(["a b a", "a b"], 1) == 2 / 5 and distinct(["a b a", "a b"], 2) == 2 / 5
    assert distinct(["a b"], 3) == 0


def test_as_typed(steer, place: Path) -> None:
    rows = [{"prompt": name, "text": f"{name} {text}"} for name, found in texts(6).items() for text in found]
    (place / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = steer("measure", "dist", "texts.jsonl", "--json")
    assert done.code == 0, done.err
    parts = [[f" {text}".rstrip() for text in found] for found in texts(6).values()]
    expected = [np.mean([distinct(found, n) for found in parts]) for n in (1, 2, 3)]
    assert [row["value"] for row in json.loads(done.out)] == pytest.approx(expected)
    assert json.loads(done.out)[0]["texts"] == 30
    text = steer("measure", "dist", "texts.jsonl", "-n", "2").out
    assert text.startswith(f"dist-2 {expected[1]:.4f} [") and "prompts 6, texts 30" in text


@pytest.mark.slow
def test_folders_that_steer_wrote(steer, place: Path) -> None:
    (place / "p.txt").write_text("the cat\na dog\n")
    done = steer("render", "p.txt", "-m", "text:shapes", "--steps", "4", "--replicates", "2", "--out", "r")
    if done.code:
        pytest.fail(done.err)
    groups = texts_by_prompt(place / "r")
    assert {name: len(found) for name, found in groups.items()} == {"the cat": 2, "a dog": 2}
    assert all(not text.startswith(name) for name, found in groups.items() for text in found)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "holds no text"),
        ("{", "line 1: not JSON"),
        ('{"prompt": "a"}', "line 1: has no text"),
        ('{"file_name": "../x.txt"}', "line 1: has no text"),
        ('{"file_name": "gone.txt"}', "gone.txt"),
        ("[1]", "line 1: has no text"),
    ],
)
def test_mistakes_end_in_one_line(steer, place: Path, content: str, problem: str) -> None:
    (place / "x.jsonl").write_text(content)
    assert problem in steer("measure", "dist", "x.jsonl").error()
    assert "holds no metadata.jsonl or texts.jsonl" in steer("measure", "dist", ".").error()
    assert steer("measure", "dist", "gone").code == 2
