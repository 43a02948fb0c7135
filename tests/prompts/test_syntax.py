"""Weights in prompts as A1111's web UI reads them."""

from __future__ import annotations

import pytest

from steer import SteerError
from steer.prompts.prompt import Prompt
from steer.prompts.syntax import WRITTEN, parse, plain, spoken

CASES = {
    "a (red:1.3) cat": [("a ", 1), ("red", 1.3), (" cat", 1)],
    "((a)) [b]": [("a", 1.21), (" ", 1), ("b", 1 / 1.1)],
    "(a (b:2) c:0.5)": [("a ", 0.5), ("b", 1), (" c", 0.5)],
    r"\(literal\) \[x\]": [("(literal) [x]", 1)],
    "(never closed": [("never closed", 1.1)],
    "[never closed": [("never closed", 1 / 1.1)],
    "never opened) :1.2) ]": [("never opened) :1.2) ]", 1)],
    "at 12:30, (a: b)": [("at 12:30, ", 1), ("a: b", 1.1)],
    "(spaces : 1.5 )": [("spaces ", 1.5)],
    "a BREAK b": [("a ", 1), (None, 1), (" b", 1)],
    "BREAKFAST": [("BREAKFAST", 1)],
    "(negative:-.5)": [("negative", -0.5)],
    "": [],
}


@pytest.mark.parametrize("text", CASES)
def test_pieces_and_weights(text: str) -> None:
    pieces = parse(text)
    assert [piece.text for piece in pieces] == [words for words, _ in CASES[text]]
    assert [piece.weight for piece in pieces] == pytest.approx([weight for _, weight in CASES[text]])


def test_plain_words() -> None:
    assert plain("a ((red:1.2)) cat BREAK [on  a] mat") == "a red cat on a mat"


def test_spoken_keeps_what_was_written_and_who_the_prompt_is() -> None:
    prompt = Prompt("a (red:1.3) cat", seed=7, category="color")
    once = spoken(prompt)
    assert (str(once), once.metadata[WRITTEN]) == ("a red cat", "a (red:1.3) cat")
    assert (once.id, once.seed, once.category) == (prompt.id, 7, "color")
    assert spoken(once) is once


def test_a_weight_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(SteerError, match=r"'red' weighs 1e\+03; expected a weight of at most 100"):
        parse("a (red:1000) cat")
