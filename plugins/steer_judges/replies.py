"""A judge's reply: read from what a server sent, and turned into a score. Pure functions; a bad reply is an error.

Nothing is made up for a reply that lacks something: a missing score counted as zero would look like a bad image.
"""

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from steer_judges.questions import Question

YES, NO = "yes", "no"
LEAST = 0.01
"""Yes and no must have so much of the probability together, or the judge says something else."""
HIGHEST = 10
"""Points of a rubric go from 0 to this."""

_THOUGHT = "</think>"
_WORD = re.compile(r"[^\W_]+")
_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_FINAL = re.compile(r"answer\W*?(?::|\bis\b)\W*([^\W_]+)", re.IGNORECASE)


class BadReply(Exception):  # noqa: N818 - not an error of the program: what is wrong with a reply
    """A reply that holds no score; the text says why."""


@dataclass(frozen=True)
class Reply:
    """A judge's final answer.

    Attributes:
        text: without what it thought before.
        likeliest: the likeliest tokens in place of the text's first word, itself included, and their log-probabilities;
            ``None`` if the server gives none.
    """

    text: str
    likeliest: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def reply_from(data: Any) -> Reply:
    """Return the reply that :meth:`Reply.as_dict` described.

    Raises:
        BadReply: for other data.
    """
    try:
        likeliest = data["likeliest"]
        return Reply(str(data["text"]), None if likeliest is None else {t: float(p) for t, p in likeliest.items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadReply("it was not kept whole") from None


def read_reply(body: str) -> Reply:
    """Read the answer to a request for a chat completion.

    Raises:
        BadReply: if it is not JSON, or lacks a text.
    """
    try:
        choice = json.loads(body)["choices"][0]
        message = choice["message"]
        content = message["content"]
    except (KeyError, IndexError, TypeError):
        raise BadReply("it has no choices[0].message.content") from None
    except (ValueError, RecursionError):
        raise BadReply("it is not JSON") from None
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    text = content.rpartition(_THOUGHT)[2].strip() if isinstance(content, str) else ""
    unfinished = text.startswith("<think>")
    if not text or unfinished:
        cut = choice.get("finish_reason") == "length" and (thoughts or unfinished)
        raise BadReply("it was cut within its thoughts; raise the option tokens" if cut else "it has no text")
    return Reply(text, _likeliest(choice.get("logprobs"), text, thinks=bool(thoughts)))


def probability(reply: Reply, question: Question) -> float:
    """Return the probability of the right answer, in [0, 1], as the first word of the reply.

    For yes or no it is P(yes) / (P(yes) + P(no)), or the same of no; over the whole vocabulary it is P(answer).
    Spellings count together: "Yes", " yes" and "YES" are one word.

    Raises:
        BadReply: without log-probabilities that are numbers at most 0, or if yes and no are both unlikely.
    """
    if reply.likeliest is None:
        raise BadReply("it has no log-probabilities (choices[0].logprobs.content)")
    words: dict[str, float] = {}
    for text, logarithm in reply.likeliest.items():
        if not logarithm <= 1e-3:  # NaN too; rounding may lift a sure thing above 0
            raise BadReply(f"its log-probability of {text!r} is {logarithm}")
        word = "".join(_WORD.findall(text)).casefold()
        words[word] = words.get(word, 0.0) + math.exp(logarithm)
    right = sum(words.get(word, 0.0) for word in question.right)
    if question.whole_vocabulary:
        return min(right, 1.0)
    yes, no = words.get(YES, 0.0), words.get(NO, 0.0)
    if yes + no < LEAST:
        raise BadReply(f"it is neither yes nor no: P(yes) + P(no) is {yes + no:.2g}, expected at least {LEAST}")
    return right / (yes + no)


def final_answer(reply: Reply, question: Question) -> float:
    """Return 1 if a reply ends with the right answer, else 0.

    It is the word after the last "answer:" or "answer is", or a reply of one word.

    Raises:
        BadReply: without one, or if yes or no is expected and it is neither.
    """
    found = _FINAL.findall(reply.text)
    words = _WORD.findall(reply.text)
    if not found and len(words) != 1:
        raise BadReply('it does not end with "Answer: …"')
    word = (found or words)[-1].casefold()
    if question.right <= {YES, NO} and word not in (YES, NO):
        raise BadReply(f"its answer {word!r} is neither yes nor no")
    return float(word in question.right)


def rubric(reply: Reply, aspects: Sequence[str]) -> float:
    """Return the overall points of a rubric as a share of :data:`HIGHEST`, in [0, 1].

    Raises:
        BadReply: if it is not the object that :func:`rubric_schema` describes.
    """
    fenced = _FENCED.search(reply.text)
    try:
        data = json.loads(fenced[1] if fenced else reply.text)
    except (ValueError, RecursionError):
        raise BadReply("it is not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("aspects"), dict):
        raise BadReply("it has no aspects")
    points = {**{aspect: data["aspects"].get(aspect) for aspect in aspects}, "overall": data.get("overall")}
    for name, value in points.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= HIGHEST:
            raise BadReply(f"{name!r} is {value!r}, expected 0 to {HIGHEST}")
    return float(points["overall"]) / HIGHEST


def rubric_schema(aspects: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of a rubric: a reason, points of each aspect, and overall points."""
    points = {"type": "integer", "enum": list(range(HIGHEST + 1))}

    def entries(of: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": of, "required": list(of), "additionalProperties": False}

    parts = {"reason": {"type": "string"}, "aspects": entries(dict.fromkeys(aspects, points)), "overall": points}
    return entries(parts)


def _likeliest(logprobs: Any, text: str, *, thinks: bool) -> dict[str, float] | None:
    """Return the likeliest tokens in place of a text's first word.

    Servers list the tokens of thoughts too, some with the mark of their end, and special tokens before the text.
    """
    word = _WORD.search(text)
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    if word is None or not listed:
        return None
    try:
        tokens = [str(one["token"]) for one in listed]
        joined = "".join(tokens)
        thought = joined.rfind(_THOUGHT)
        marked = thought >= 0 or not thinks
        start = joined.find(word[0], max(thought, 0)) if marked else joined.rfind(word[0])
        if start < 0:
            raise BadReply("its log-probabilities are not those of its text")
        ends = itertools.accumulate(map(len, tokens))
        one = listed[next(number for number, end in enumerate(ends) if end > start)]
        return {str(at["token"]): _number(at["logprob"]) for at in (*one["top_logprobs"], one)}
    except (KeyError, TypeError, ValueError):
        raise BadReply("its log-probabilities have another form than OpenAI's") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    return float(value)
