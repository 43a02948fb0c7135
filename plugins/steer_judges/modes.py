"""The ways to ask a judge and to read its answer: by probabilities, by its final answer, by a rubric."""

from collections.abc import Mapping, Sequence
from typing import Any

from steer import Prompt
from steer_judges import replies
from steer_judges.questions import PROMPT, Question, filled, questions_of
from steer_judges.replies import Reply

SHORT = 8
"""Tokens of a reply that is a word: some models begin with a line feed or a mark."""
ALTERNATIVES = 20
"""Likeliest tokens at each place of a reply: the most that OpenAI and, by default, vLLM give."""


class Mode:
    """A way to ask and to read the answer.

    Attributes:
        template: the question about an image of a prompt without questions of its own.
        fields: of the request, besides the question.
    """

    template = f'Does this image show "{PROMPT}"?'

    def __init__(self) -> None:
        self.fields: Mapping[str, Any] = {}

    def questions(self, prompt: Prompt | str, template: str | None) -> list[Question]:
        """Return the questions about an image of a prompt; ``template`` is the user's.

        Raises:
            SteerError: naming the prompt, if its row holds something else than questions.
        """
        return questions_of(prompt, template, self.template)

    def wording(self, question: Question) -> str:
        """Return a question with words on the form of the answer."""
        raise NotImplementedError

    def score(self, reply: Reply, question: Question) -> float:
        """Return a reply's score in [0, 1].

        Raises:
            BadReply: if it has none.
        """
        raise NotImplementedError


class Probability(Mode):
    """P(yes) / (P(yes) + P(no)), from the log-probabilities of the first word of the answer."""

    def __init__(self) -> None:
        self.fields = {"logprobs": True, "top_logprobs": ALTERNATIVES, "max_completion_tokens": SHORT}

    def wording(self, question: Question) -> str:
        return f"{question.text} Answer {'in one word' if question.whole_vocabulary else 'with yes or no'}."

    def score(self, reply: Reply, question: Question) -> float:
        return replies.probability(reply, question)


class FinalAnswer(Mode):
    """Whether the last word is right, after any thoughts; for servers that give no log-probabilities."""

    def wording(self, question: Question) -> str:
        word = "one word" if question.whole_vocabulary else "yes or no"
        return f'{question.text} Look closely and think. End with a line "Answer: …" that gives {word}.'

    def score(self, reply: Reply, question: Question) -> float:
        return replies.final_answer(reply, question)


class OneQuestion(Mode):
    """A way that asks one question about the whole image, whatever questions the prompt's row has."""

    def questions(self, prompt: Prompt | str, template: str | None) -> list[Question]:
        return [Question(filled(template or self.template, str(prompt)))]


class Rubric(OneQuestion):
    """Overall points of a rubric, 0 to 10, given after points of aspects, as JSON by a schema."""

    template = (
        f'This image was generated for the prompt "{PROMPT}". Judge it strictly, with whole points from 0 (bad) to '
        f"{replies.HIGHEST} (perfect), for each of some aspects and overall. First give a reason in one sentence."
    )

    def __init__(self, aspects: Sequence[str]) -> None:
        """Args: aspects: names of what is judged before the whole."""
        self.aspects = tuple(aspects)
        schema = {"name": "rubric", "strict": True, "schema": replies.rubric_schema(self.aspects)}
        self.fields = {"response_format": {"type": "json_schema", "json_schema": schema}}

    def wording(self, question: Question) -> str:
        aspects = ", ".join(f'"{aspect}"' for aspect in self.aspects)
        form = f'{{"reason": "…", "aspects": {{"{self.aspects[0]}": 0, …}}, "overall": 0}}'
        return f"{question.text} The aspects are {aspects}. Answer with JSON alone, such as {form}."

    def score(self, reply: Reply, question: Question) -> float:
        return replies.rubric(reply, self.aspects)
