"""What a judge is asked: the template, the row's questions, or its pairs of question and answer."""

from __future__ import annotations

from typing import Any

import pytest

from steer import Prompt, SteerError
from steer_judges.questions import Question, filled, questions_of, spellings

USUAL = 'Does this image show "{prompt}"?'


def row(**metadata: Any) -> Prompt:
    return Prompt("a red circle", metadata=metadata)


def test_the_users_template_goes_before_the_row_and_the_row_before_the_usual_one() -> None:
    mine = row(questions=["is there a circle?"])
    assert questions_of(mine, "Is {prompt} here?", USUAL) == [Question("Is a red circle here?")]
    assert questions_of(mine, None, USUAL) == [Question("is there a circle?")]
    assert questions_of(row(assertions=["the circle is red"]), None, USUAL) == [Question("is the circle red?")]
    assert questions_of(row(), None, USUAL) == [Question('Does this image show "a red circle"?')]
    assert questions_of("a red circle", None, USUAL) == [Question('Does this image show "a red circle"?')]


def test_braces_and_line_feeds_of_a_prompt_are_text() -> None:
    assert filled("{prompt} {0} {", "{a}\n  {prompt}") == "{a} {prompt} {0} {"


def test_pairs_are_those_of_geneval_2() -> None:
    pairs = [["How many cows are in the image?", "three"], ["Are the cows plastic?", "Yes"]]
    cows, plastic = questions_of(row(vqa_list=pairs, questions=["other?"]), None, USUAL)
    assert cows.right == {"three", "3"} and plastic.right == {"yes"}
    assert cows.whole_vocabulary and plastic.whole_vocabulary
    assert spellings("10") == {"ten", "10"} and spellings("Red") == {"red"} and spellings("42") == {"42"}


@pytest.mark.parametrize(
    "pairs", [[], "x", {"a": 1}, ["q"], [["q"]], [["q", ""]], [["q", "two words"]], [["q", 3]], [["q", "a", "b"]], 7]
)
def test_other_pairs_are_refused_by_the_name_of_the_prompt(pairs: Any) -> None:
    with pytest.raises(SteerError, match=r"prompt 'a red circle' \(id \w+\): .*'vqa_list'.* expected a"):
        questions_of(row(vqa_list=pairs), None, USUAL)
