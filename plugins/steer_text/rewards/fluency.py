"""Fluency: how likely a causal language model finds a text."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steer import Field, Options, Prompt, SteerError
from steer_text.checkpoints import load, longest
from steer_text.rewards.base import TextReward, once_each

BATCH = 32
"""Texts per forward pass."""


class FluencyOptions(Options):
    """Options of ``fluency``."""

    perplexity: bool = Field(False, description="Score minus the perplexity instead of minus its logarithm.")
    max_tokens: int = Field(
        512, ge=2, le=131_072, description="Most tokens to read of a text; limited by what the model takes."
    )


class Fluency(TextReward):
    """``fluency:ID``: mean log-likelihood per token in nats, which is minus the log of the perplexity; at most 0.

    ID is a folder or hub id of any ``AutoModelForCausalLM``. A model with a beginning token also predicts the first
    word. A text without predicted tokens counts as a random guess among all tokens.
    """

    Options = FluencyOptions
    options: FluencyOptions

    def prepare(self) -> None:
        if self.argument is None:
            raise SteerError("fluency: name a causal language model, such as fluency:openai-community/gpt2 or a folder")
        model, self.tokenizer = load("AutoModelForCausalLM", self.argument, f"reward 'fluency:{self.argument}'")
        self.model = model.to(self.device)
        self.most = min(self.options.max_tokens, longest(model, self.tokenizer))

    def __call__(self, samples: Sequence[str], prompts: Sequence[Prompt | str]) -> Tensor:
        return once_each(samples, self._score)

    def _score(self, texts: list[str]) -> Tensor:
        parts = [self._batch(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        likelihood = torch.cat(parts)
        return -torch.exp(-likelihood) if self.options.perplexity else likelihood

    @torch.no_grad()
    def _batch(self, texts: list[str]) -> Tensor:
        begin = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        rows = [[*begin, *self.tokenizer(text, add_special_tokens=False).input_ids][: self.most] for text in texts]
        longest = max(2, *map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        real = torch.zeros(len(rows), longest, dtype=torch.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
            real[number, : len(row)] = 1
        # an empty row would have nothing to attend to
        real[:, 0] = 1
        ids, real = ids.to(self.device), real.to(self.device)
        logits = self.model(input_ids=ids, attention_mask=real).logits.float()
        each = torch.log_softmax(logits[:, :-1], dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        count = real[:, 1:].sum(dim=1)
        mean = (each * real[:, 1:]).sum(dim=1) / count.clamp(min=1)
        return torch.where(count > 0, mean, -math.log(logits.shape[-1])).cpu()
