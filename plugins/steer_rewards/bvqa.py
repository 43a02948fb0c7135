"""BLIP-VQA score of T2I-CompBench (Huang et al. 2023, arXiv 2307.06350): every noun phrase must be in the image.

Each noun phrase becomes a question ("a red bear?"). The score is the product of p_yes / (p_yes + p_no).
"""

from torch import Tensor
from torch.nn import functional

from steer_rewards.blip_vqa import BlipVqa
from steer_rewards.questions import parse_phrases


class Bvqa(BlipVqa):
    """Product over questions of p_yes / (p_yes + p_no); 0…1, higher is better. Differentiable."""

    name = "bvqa"

    def parse(self, text: str) -> list[str]:
        """Return one question per noun phrase."""
        return parse_phrases(text)

    def combine(self, logits: Tensor) -> Tensor:
        """Return the product of p_yes / (p_yes + p_no) over answers ``[Q, vocabulary]``."""
        # p_yes / (p_yes + p_no) is the sigmoid of the logits' difference; the product is a sum of logs
        margins = logits[:, self.tokenizer.yes] - logits[:, self.tokenizer.no]
        return functional.logsigmoid(margins).sum().exp()
