"""Prompts that vary: wildcards and choices, drawn by the prompt's id and the sample's number."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from support.commands import Steer

from steer import SteerError
from steer.prompts.prompt import Prompt, as_prompts
from steer.prompts.wildcards import TEMPLATE, Wildcards, drawn_prompts

COLORS = ("red", "green", "blue")


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    (folder / "things").mkdir(parents=True)
    (folder / "color.txt").write_text("\ufeff# colors\nred\n\ngreen\n blue \n", encoding="utf-8")
    (folder / "things" / "shape.txt").write_text("{circle|square}\n")
    (folder / "scene.txt").write_text("a __color__ __things/shape__\n")
    return folder


def test_lists_and_choices_are_drawn_within_one_another(lists: Path) -> None:
    drawn = {str(Wildcards(lists).drawn(Prompt("__scene__ {at|by} {n{igh|oo}t|sea}"), 0, n)) for n in range(60)}
    assert all(re.fullmatch(r"a (red|green|blue) (circle|square) (at|by) (night|noot|sea)", text) for text in drawn)
    assert len(drawn) > 10


def test_a_draw_depends_on_the_id_the_seed_and_the_number_alone(lists: Path) -> None:
    texts = ["__color__ {1|2|3|4|5|6|7|8|9}", "{1|2|3|4|5|6|7|8|9} __color__"]
    one, two = drawn_prompts(as_prompts(texts), lists)
    assert drawn_prompts(as_prompts(texts[1:]), lists) == [two]
    assert one.metadata[TEMPLATE] == texts[0] and one.id == Prompt(texts[0]).id
    many = drawn_prompts(as_prompts(texts[:1]), lists, replicates=30)
    assert many[0] == one and len({prompt.id for prompt in many}) == 30 and len(set(many)) > 5
    assert len({str(Wildcards(lists).drawn(Prompt(texts[0]), seed)) for seed in range(30)}) > 5


def test_weights_of_a_choice(lists: Path) -> None:
    wildcards = Wildcards(lists)
    found = Counter(str(wildcards.drawn(Prompt("{3::a|b|0::c}"), 0, number)) for number in range(400))
    assert set(found) == {"a", "b"}
    assert abs(found["a"] / 400 - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5


def test_what_has_no_wildcard_stays(lists: Path) -> None:
    prompt = Prompt("a __ in snake__case and __init, { alone")
    assert Wildcards(lists).drawn(prompt) is prompt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__colr__", r"has no colr.txt — did you mean 'color'\? \(lists: color, "),
        ("__../secret__", r"has no ../secret.txt|__../secret__"),
        ("__loop__", "contain one another without end"),
        ("__none__", r"none.txt is empty"),
        ("{2$$a|b}", "several alternatives at once are not read"),
        ("{0::a|0::b}", "all weights are 0"),
    ],
)
def test_what_cannot_be_drawn_is_told(text: str, said: str, lists: Path) -> None:
    (lists / "loop.txt").write_text("__loop__ __loop__\n")
    (lists / "none.txt").write_text("# nothing\n")
    (lists.parent / "secret.txt").write_text("secret\n")
    if text == "__../secret__":
        assert "secret\n" not in str(Wildcards(lists).drawn(Prompt(text)))
        return
    with pytest.raises(SteerError, match=said):
        Wildcards(lists).drawn(Prompt(text))


@pytest.mark.slow
def test_replicates_of_a_render_are_drawn_anew(steer: Steer, lists: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a __color__ circle\n")
    out = tmp_path / "out"
    command = ["render", tmp_path / "prompts.txt", "--wildcards", lists, "--replicates", "6", "--steps", "1"]
    assert steer(*command, "--out", out).code == 0
    rows = [json.loads(line) for line in (out / "prompts.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and len({row["prompt"] for row in rows}) > 1
    images = {file: file.read_bytes() for file in out.rglob("*.png")}
    again = steer(*command, "--out", out)
    assert again.code == 0 and "6 of 6 prompts done" in again.err and "warning" not in again.err
    assert {file: file.read_bytes() for file in out.rglob("*.png")} == images
