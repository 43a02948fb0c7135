"""From what a server sent to a score: right to the last digit, or an error that says what is wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from steer_judges.questions import Question
from steer_judges.replies import (
    BadReply,
    Reply,
    final_answer,
    probability,
    read_reply,
    reply_from,
    rubric,
    rubric_schema,
)

YES, NO = Question("is it?"), Question("is it?", "no")
THREE = Question("how many?", "three", whole_vocabulary=True)


def body(content: Any, tokens: list[tuple[str, dict[str, Any]]] | None = None, **choice: Any) -> str:
    """Return the answer of a server, with log-probabilities of each token's place if ``tokens`` are given."""
    listed = None
    if tokens is not None:
        listed = {
            "content": [
                {"token": text, "logprob": likeliest.get(text, -9.0),
                 "top_logprobs": [{"token": t, "logprob": p} for t, p in likeliest.items()]}
                for text, likeliest in tokens
            ]
        }  # fmt: skip
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    return json.dumps({"choices": [{"message": message, "logprobs": listed, **choice}]})


PLACE = {"Yes": math.log(0.5), " yes": math.log(0.1), "NO": math.log(0.2), "Maybe": math.log(0.15)}


def test_the_probability_is_exact_and_spellings_count_together() -> None:
    reply = read_reply(body("Yes.", [("Yes", PLACE), (".", {".": -0.1})]))
    assert probability(reply, YES) == pytest.approx(0.6 / 0.8, abs=1e-12)
    assert probability(reply, NO) == pytest.approx(0.2 / 0.8, abs=1e-12)
    assert probability(reply, Question("?", "Yes", whole_vocabulary=True)) == pytest.approx(0.6, abs=1e-12)
    numbers = {"three": math.log(0.5), " 3": math.log(0.25), "3": math.log(0.05), "two": math.log(0.2)}
    assert probability(read_reply(body("three", [("three", numbers)])), THREE) == pytest.approx(0.8, abs=1e-12)


def test_an_answer_that_is_not_listed_has_no_probability() -> None:
    only_yes = read_reply(body("Yes", [("Yes", {"Yes": math.log(0.99)})]))
    assert probability(only_yes, YES) == 1 and probability(only_yes, NO) == 0
    assert probability(only_yes, THREE) == 0


@pytest.mark.parametrize(
    ("content", "tokens", "message"),
    [
        ("\n\n**Yes**", ["\n\n", "**", "Yes", "**"], {}),
        ("Yes", ["<|channel|>", "final", "Yes", "<|im_end|>"], {}),
        (
            "<think>Yes or no? No!</think>\n\nYes",
            ["<think>", "Yes", " or", " no", "? No!", "</think>", "\n\n", "Yes"],
            {},
        ),
        (
            "Yes",
            ["Yes", " or", " no? No!", "</think>", "\n\n", "Yes", "<|im_end|>"],
            {"reasoning_content": "Yes or no? No!"},
        ),
        ("Yes", ["Yes", " or", " no? No!", "Yes"], {"reasoning": "Yes or no? No!"}),
        ("Yes", ["Yes"], {"reasoning": "Yes or no? No!"}),
    ],
)
def test_the_answer_is_found_behind_marks_and_thoughts(content: str, tokens: list[str], message: dict) -> None:
    last = len(tokens) - 1 - tokens[::-1].index("Yes")
    places = [(token, PLACE if number == last else {token: -0.5}) for number, token in enumerate(tokens)]
    reply = read_reply(body(content, places, message=message))
    assert reply.text.strip("*") == "Yes"
    assert probability(reply, YES) == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize(
    ("likeliest", "why"),
    [
        ({"Yes": float("nan"), "No": -1.0}, "log-probability of 'Yes' is nan"),
        ({"Yes": float("inf")}, "is inf"),
        ({"Yes": 0.5}, "is 0.5"),
        ({"The": -0.001, "Yes": -9.0}, r"neither yes nor no: P\(yes\) \+ P\(no\) is 0.00012, expected at least 0.01"),
    ],
)
def test_probabilities_that_are_none_are_refused(likeliest: dict[str, float], why: str) -> None:
    first = next(iter(likeliest))
    with pytest.raises(BadReply, match=why):
        probability(read_reply(body(first, [(first, likeliest)])), YES)


def test_minus_infinity_is_a_probability_of_zero() -> None:
    assert probability(read_reply(body("Yes", [("Yes", {"Yes": -0.1, "No": -math.inf})])), YES) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"), ("<html>", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "no choices"),
        ("{}", "no choices"),
        ('{"choices": []}', "no choices"), ('{"choices": [{"message": {}}]}', "no choices"), ("null", "no choices"),
        ('{"choices": [{"message": 3}]}', "no choices"), (body(None), "no text"), (body(7), "no text"),
        (body("  \n"), "no text"),
        (body("<think>hm", finish_reason="length"), "cut within its thoughts; raise the option tokens"),
        (body("", finish_reason="length", message={"reasoning": "hm"}), "cut within its thoughts"),
        (body("<think>hm</think> "), "no text"),
    ],
)  # fmt: skip
def test_what_is_no_reply_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadReply, match=why):
        read_reply(text)


@pytest.mark.parametrize(
    "listed",
    [[{}], [{"token": "Yes"}], [{"token": "Yes", "logprob": "x", "top_logprobs": []}], [3], ["Yes"], "Yes",
     [{"token": "Yes", "logprob": True, "top_logprobs": []}], [{"token": "No", "logprob": -1, "top_logprobs": []}]],
)  # fmt: skip
def test_log_probabilities_of_another_form_are_refused(listed: Any) -> None:
    text = json.dumps({"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": listed}}]})
    with pytest.raises(BadReply, match="log-probabilities"):
        read_reply(text)


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, 3])
def test_no_log_probabilities_are_missed_when_they_are_needed(logprobs: Any) -> None:
    reply = read_reply(json.dumps({"choices": [{"message": {"content": "Yes"}, "logprobs": logprobs}]}))
    assert reply == Reply("Yes") and final_answer(reply, YES) == 1
    with pytest.raises(BadReply, match=r"no log-probabilities \(choices\[0\]\.logprobs\.content\)"):
        probability(reply, YES)


@pytest.mark.parametrize(
    ("text", "question", "score"),
    [
        ("yes", YES, 1), ("No.", YES, 0), ("No.", NO, 1), ("The answer is no. Then: Answer: **Yes**", YES, 1),
        ("To answer that, I count.\nFinal answer: 3", THREE, 1), ("Answer: four", THREE, 0),
    ],
)  # fmt: skip
def test_the_final_answer_counts(text: str, question: Question, score: int) -> None:
    assert final_answer(Reply(text), question) == score


@pytest.mark.parametrize(
    ("text", "question", "why"),
    [
        ("It looks good.", YES, "does not end with"),
        ("Answer: maybe", YES, "neither yes nor no"),
        ("I cannot answer that.", THREE, "does not end with"),
    ],
)
def test_a_reply_without_a_final_answer_is_refused(text: str, question: Question, why: str) -> None:
    with pytest.raises(BadReply, match=why):
        final_answer(Reply(text), question)


GOOD = {"reason": "r", "aspects": {"style": 4, "detail": 10}, "overall": 7}


def test_a_rubric_gives_its_overall_points() -> None:
    assert rubric(Reply(json.dumps(GOOD)), ["style", "detail"]) == 0.7
    assert rubric(Reply(f"Here it is:\n```json\n{json.dumps(GOOD)}\n```"), ["style"]) == 0.7
    schema = rubric_schema(["style", "detail"])
    assert schema["required"] == ["reason", "aspects", "overall"]
    assert schema["properties"]["aspects"]["required"] == ["style", "detail"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"overall": 11}, "'overall' is 11, expected 0 to 10"), ({"overall": float("nan")}, "'overall' is nan"),
        ({"overall": True}, "'overall' is True"),
        ({"overall": "7"}, "'overall' is '7'"), ({"overall": None}, "is None"),
        ({"aspects": {"style": 4}}, "'detail' is None"), ({"aspects": {"style": 4, "detail": -1}}, "'detail' is -1"),
        ({"aspects": 3}, "no aspects"),
    ],
)  # fmt: skip
def test_points_out_of_range_and_missing_ones_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(BadReply, match=why):
        rubric(Reply(json.dumps({**GOOD, **change})), ["style", "detail"])


@pytest.mark.parametrize("text", ["7/10", "[]", "{", '"x"', "[" * 100_000])
def test_what_is_no_rubric_is_refused(text: str) -> None:
    with pytest.raises(BadReply):
        rubric(Reply(text), ["style"])


def test_a_reply_is_kept_and_read_back() -> None:
    reply = read_reply(body("Yes", [("Yes", {"Yes": -0.1, "No": -math.inf})]))
    assert reply_from(reply.as_dict()) == reply
    for damaged in (None, [], {}, {"text": "x", "likeliest": 3}, {"text": "x", "likeliest": {"a": "b"}}):
        with pytest.raises(BadReply):
            reply_from(damaged)
