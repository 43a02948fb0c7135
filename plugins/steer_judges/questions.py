"""What a judge is asked about an image of a prompt: from the prompt's row, else from a template. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from steer import Prompt, SteerError
from steer_rewards.questions import given_questions

PROMPT = "{prompt}"
"""Stands for the prompt's text in a template."""
PAIRS = "vqa_list"
"""Key of a prompt's row with pairs of a question and its right answer, as GenEval 2 names it."""

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Question:
    """A question about an image.

    Attributes:
        text: as asked, without words on the form of the answer.
        answer: the right answer in one word.
        whole_vocabulary: whether its probability counts against all other words, as in Soft-TIFA; if not, against the
            opposite of yes or no.
    """

    text: str
    answer: str = "yes"
    whole_vocabulary: bool = False

    @property
    def right(self) -> frozenset[str]:
        """The right answer in all its spellings."""
        return spellings(self.answer)


def spellings(answer: str) -> frozenset[str]:
    """Return the spellings of a one-word answer, in lower case; a number up to ten is a word and digits."""
    word = answer.strip().casefold()
    for digits, name in enumerate(_NUMBERS):
        if word in (name, str(digits)):
            return frozenset({name, str(digits)})
    return frozenset({word})


def filled(template: str, prompt: str) -> str:
    """Return a template with a prompt; braces in either mean nothing else."""
    return template.replace(PROMPT, " ".join(prompt.split()))


def questions_of(prompt: Prompt | str, template: str | None, usual: str) -> list[Question]:
    """Return the questions about an image of a prompt.

    Args:
        prompt: its row may hold ``vqa_list``, ``questions`` or ``assertions``.
        template: the user's, which goes before the row.
        usual: the template for a prompt without questions of its own.

    Raises:
        SteerError: naming the prompt, if its row holds something else.
    """
    if template is not None:
        return [Question(filled(template, str(prompt)))]
    pairs = getattr(prompt, "metadata", {}).get(PAIRS)
    if pairs is not None:
        return list(dict.fromkeys(_pair(pair, prompt) for pair in _listed(pairs, prompt)))
    given = given_questions(prompt)
    return [Question(filled(usual, str(prompt)))] if given is None else [Question(text) for text in given]


def _listed(pairs: object, prompt: Prompt | str) -> Sequence[object]:
    if isinstance(pairs, list) and pairs:
        return pairs
    raise SteerError(
        f"{_where(prompt)}: got {str(pairs)[:60]!r} as {PAIRS!r}, expected a list of questions and answers"
    )


def _pair(pair: object, prompt: Prompt | str) -> Question:
    if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) and part.strip() for part in pair):
        question, answer = (part.strip() for part in pair)
        if len(answer.split()) == 1:
            return Question(question, answer, whole_vocabulary=True)
    raise SteerError(
        f"{_where(prompt)}: {PAIRS!r} holds {str(pair)[:80]!r}, expected a question and an answer of one word, such as "
        '["How many cows are in the image?", "three"]'
    )


def _where(prompt: Prompt | str) -> str:
    return f"prompt {str(prompt)[:60]!r} (id {getattr(prompt, 'id', '-')})"
