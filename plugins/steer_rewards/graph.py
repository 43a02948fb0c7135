"""Questions about an image with right answers and dependencies, and how their answers become scores. Pure functions.

Soft-TIFA (Kamath et al. 2025, arXiv 2512.16853) takes the mean probability of right answers. The Davidsonian scene
graph (Cho et al. 2024, arXiv 2310.18235), which DPG-Bench and OneIG-Bench use, asks yes-no questions, and a question
counts as answered no if one that it depends on is: without a car there is no red car.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from steer import Prompt, SteerError

PAIRS, QUESTIONS, DEPENDENCIES = "vqa_list", "questions", "dependencies"
"""Keys of a prompt's row: pairs of question and right answer; questions; for each, the places of its parents."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
YES = ("Yes", "yes", " yes", " Yes")
"""The spellings of an answer, as GenEval 2's evaluation lists them."""


def pairs_of(prompt: Prompt | str) -> list[tuple[str, str]]:
    """Return the questions of a prompt's row with their right answers.

    Raises:
        SteerError: naming the prompt, if it has none, or something else.
    """
    found = _metadata(prompt).get(PAIRS)
    listed = isinstance(found, Sequence) and not isinstance(found, str) and bool(found)
    if not listed or not all(_is_pair(pair) for pair in found or ()):
        raise SteerError(
            f"prompt {str(prompt)[:60]!r}: {PAIRS} is {str(found)[:60]}, expected pairs of a question and its answer: "
            '[["How many dogs are in the image?", "two"]]'
        )
    return [(question.strip(), answer.strip()) for question, answer in found or ()]


def spellings(question: str, answer: str) -> tuple[str, ...]:
    """Return the spellings of a right answer whose first tokens count: a number in words and digits, else yes."""
    if not question.startswith("How many"):
        return YES
    word = answer.lower()
    digits = str(NUMBERS.index(word)) if word in NUMBERS else answer
    capital = answer.capitalize()
    return tuple(dict.fromkeys((answer, capital, f" {answer}", f" {capital}", digits, f" {digits}")))


def geometric_mean(chances: Sequence[float]) -> float:
    """Return the geometric mean of probabilities; 0 if one is 0."""
    return math.exp(sum(map(math.log, chances)) / len(chances)) if all(chance > 0 for chance in chances) else 0.0


def graph_of(prompt: Prompt | str) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return the yes-no questions of a prompt's row, and for each the places of those it depends on.

    Raises:
        SteerError: naming the prompt, if it has none, or something else.
    """
    where, metadata = f"prompt {str(prompt)[:60]!r}", _metadata(prompt)
    questions, dependencies = metadata.get(QUESTIONS), metadata.get(DEPENDENCIES)
    if not _is_list(questions) or not questions or not all(isinstance(one, str) and one.strip() for one in questions):
        raise SteerError(f"{where}: {QUESTIONS} is {str(questions)[:60]}, expected a list of yes-no questions")
    if dependencies is None:
        return [one.strip() for one in questions], [()] * len(questions)
    right = _is_list(dependencies) and len(dependencies) == len(questions) and all(map(_is_list, dependencies))
    places = range(len(questions))
    if not right or not all(isinstance(place, int) and place in places for row in dependencies for place in row):
        raise SteerError(
            f"{where}: {DEPENDENCIES} is {str(dependencies)[:60]}, expected for each question the places of those it "
            "depends on, counted from 0, as [[], [0]]"
        )
    return [one.strip() for one in questions], [tuple(row) for row in dependencies]


def with_dependencies(answers: Sequence[bool], dependencies: Sequence[Sequence[int]]) -> list[bool]:
    """Return answers as no where an answer that they depend on is no.

    In the order of the questions and by the answers so far, as DPG-Bench's evaluation does: a no is passed on. OneIG's
    looks at the answers as given, so that a no reaches direct children alone.
    """
    found = list(answers)
    for place, parents in enumerate(dependencies):
        if not all(found[parent] for parent in parents):
            found[place] = False
    return found


def _metadata(prompt: Prompt | str) -> Mapping[str, Any]:
    return getattr(prompt, "metadata", None) or {}


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_pair(value: object) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return len(value) == 2 and all(isinstance(part, str) and part.strip() for part in value)
