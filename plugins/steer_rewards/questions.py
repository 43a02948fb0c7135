"""Yes-no questions about a prompt: from its metadata, else parsed from its text by rules.

The references use a language model (DA-score, Singh & Zheng 2023, arXiv 2307.04749) or the noun phrases from a tagger
(BLIP-VQA of T2I-CompBench, Huang et al. 2023, arXiv 2307.06350). Here a few rules split the prompt
(:mod:`steer_rewards.phrases`); for prompts that matter, write the questions into the prompt file. All functions here
are pure functions of text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steer import Prompt, SteerError
from steer_rewards import words
from steer_rewards.phrases import Thing, find_things


def parse_questions(text: str) -> list[str]:
    """Return one question for each thing that a prompt names, and one for each statement about it.

    ``"a red bear on a table"`` gives ``"is there a red bear in the image?"``, ``"is the red bear on the table?"`` and
    ``"is there a table in the image?"``. If nothing is found in a prompt, there is one question about the whole prompt.
    """
    found = [question for thing in find_things(text) for question in (_exists(thing), *_said(thing))]
    return list(dict.fromkeys(found)) or [whole(text)]


def parse_phrases(text: str) -> list[str]:
    """Return each noun phrase as a question in T2I-CompBench's form: ``"a red bear?"``."""
    found = [f"{thing.text}?" for thing in find_things(text)]
    return list(dict.fromkeys(found)) or [whole(text)]


def whole(text: str) -> str:
    """Return one question about the whole prompt."""
    line = " ".join(text.split())
    return f"does this image show {line.rstrip('.!?') or line}?"


def as_question(assertion: str) -> str:
    """Turn an assertion into a question.

    A noun phrase (``"a red bear"``) gives a question about its existence. In a sentence with "is" (``"the bear is
    red"``), the verb moves to the front. Anything else gives a question about the whole text.
    """
    line = " ".join(assertion.split())
    if line.endswith("?"):
        return line
    parts = line.rstrip(".!").split()
    for number, word in enumerate(parts[1:-1], 1):
        if word.lower() in words.COPULAS:
            subject, rest = " ".join(parts[:number]), " ".join(parts[number + 1 :])
            there = subject.lower() == "there"
            return f"{word} there {rest} in the image?" if there else f"{word} {subject} {rest}?"
    things = find_things(line)
    said = [question for thing in things for question in _said(thing)]
    if len(said) == 1:
        return said[0]
    return _exists(things[0]) if len(things) == 1 and not said else whole(line)


def given_questions(prompt: Prompt | str) -> list[str] | None:
    """Return the questions that a prompt's metadata holds, or ``None`` if it holds none.

    ``questions`` are used as they are; ``assertions`` are turned into questions, see :func:`as_question`.

    Raises:
        SteerError: naming the prompt, if either is not a list of texts.
    """
    metadata: Mapping[str, Any] = getattr(prompt, "metadata", None) or {}
    for key in ("questions", "assertions"):
        value = metadata.get(key)
        if value is not None:
            _check(value, key, prompt)
            texts = (text.strip() for text in value)
            return list(dict.fromkeys(texts if key == "questions" else map(as_question, texts)))
    return None


def _exists(thing: Thing) -> str:
    verb = "are" if thing.plural else "is"
    if thing.words[0] in words.DEFINITE:
        return f"{verb} {thing.text} in the image?"
    return f"{verb} there {thing.text} in the image?"


def _said(thing: Thing) -> list[str]:
    plural = thing.plural
    return [
        f"{'do' if plural else 'does'} {thing.definite} {said}?"
        if said.startswith("have ")
        else f"{'are' if plural else 'is'} {thing.definite} {said}?"
        for said in thing.said
    ]


def _check(value: object, key: str, prompt: Prompt | str) -> None:
    where = f"prompt {str(prompt)[:60]!r} (id {getattr(prompt, 'id', '-')})"
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise SteerError(f"{where}: got {type(value).__name__} as {key!r}, expected a list of texts")
    if not value:
        raise SteerError(f"{where}: {key!r} is an empty list; give at least one text, or leave it out")
    for item in value:
        if not isinstance(item, str) or not item.strip():
            raise SteerError(f"{where}: {key!r} holds {item!r}, expected a text such as 'is there a red bear?'")
