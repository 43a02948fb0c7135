"""DA-score, decompositional alignment (Singh & Zheng 2023, arXiv 2307.04749): the share of a prompt that is met.

A prompt is split into assertions, each becomes a question, and the score is the mean probability of "yes".
"""

from torch import Tensor

from steer_rewards.blip_vqa import BlipVqa
from steer_rewards.questions import parse_questions


class Da(BlipVqa):
    """Mean over questions of P(yes) among all words; 0…1, higher is better. Differentiable."""

    name = "da"

    def parse(self, text: str) -> list[str]:
        """Return one question per thing and per relation."""
        return parse_questions(text)

    def combine(self, logits: Tensor) -> Tensor:
        """Return the mean of P(yes) over answers ``[Q, vocabulary]``."""
        return logits.softmax(dim=1)[:, self.tokenizer.yes].mean()
