"""BLIP-VQA score of T2I-CompBench (Huang et al. 2023, arXiv 2307.06350): every noun phrase must be there.

Each noun phrase is asked for ("a red bear?"), and the score is the product of p_yes / (p_yes + p_no).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from steer_rewards.blip_vqa import BlipVqa
from steer_rewards.questions import parse_phrases


class Bvqa(BlipVqa):
    """Product over questions of p_yes / (p_yes + p_no); 0…1, higher is better. Differentiable."""

    name = "bvqa"

    def parse(self, text: str) -> list[str]:
        """Return a question for each noun phrase."""
        return parse_phrases(text)

    def combine(self, logits: Tensor) -> Tensor:
        """Return the product of the shares of "yes" against "no" in answers ``[Q, vocabulary]``."""
        # a share of two softmax values is a sigmoid of their logits' difference; the product of many is a sum of logs
        margins = logits[:, self.tokenizer.yes] - logits[:, self.tokenizer.no]
        return functional.logsigmoid(margins).sum().exp()
