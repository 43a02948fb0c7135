"""DA-score, decompositional alignment (Singh & Zheng 2023, arXiv 2307.04749): the share of a prompt that is there.

A prompt is split into assertions, each is asked about, and the score is the mean probability of "yes".
"""

from __future__ import annotations

from torch import Tensor

from steer_rewards.blip_vqa import BlipVqa
from steer_rewards.questions import parse_questions


class Da(BlipVqa):
    """Mean over questions of P(yes) among all words; 0…1, higher is better. Differentiable."""

    name = "da"

    def parse(self, text: str) -> list[str]:
        """Return a question for each thing and each relation."""
        return parse_questions(text)

    def combine(self, logits: Tensor) -> Tensor:
        """Return the mean of P(yes) of answers ``[Q, vocabulary]``."""
        return logits.softmax(dim=1)[:, self.tokenizer.yes].mean()
