"""Any text classifier of transformers as a reward: acceptability, toxicity, sentiment, formality …"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from steer import Field, Options, Prompt, SteerError
from steer.plugin import unknown
from steer_text.checkpoints import load, longest
from steer_text.rewards.base import TextReward, once_each

BATCH = 32
"""Texts per forward pass."""


class ClassifierOptions(Options):
    """Options of ``classifier``."""

    log: bool = Field(False, description="Score the log-probability of the label instead of its probability.")
    max_tokens: int = Field(
        512, ge=2, le=131_072, description="Most tokens to read of a text; limited by what the model takes."
    )


class Classifier(TextReward):
    """``classifier:ID/LABEL``: the probability in [0, 1] that a text has a label.

    ID is a folder or hub id of any ``AutoModelForSequenceClassification``. Labels are those of its configuration; case
    does not matter. A multi-label model judges each label independently (a sigmoid, not a softmax).
    """

    Options = ClassifierOptions
    options: ClassifierOptions

    def prepare(self) -> None:
        argument = self.argument or ""
        source, slash, label = argument.rpartition("/")
        if not slash or not label:
            raise SteerError(f"classifier:{argument}: name a classifier and a label, such as classifier:ID/LABEL")
        if Path(argument).expanduser().is_dir() and not (Path(source) / "config.json").is_file():
            raise SteerError(
                f"classifier:{argument}: that is a folder without a label; add one, as in {argument}/LABEL"
            )
        model, self.tokenizer = load("AutoModelForSequenceClassification", source, f"reward 'classifier:{source}'")
        self.model = model.to(self.device)
        self.most = min(self.options.max_tokens, longest(model, self.tokenizer))
        names = {str(name).casefold(): int(number) for number, name in model.config.id2label.items()}
        if label.casefold() not in names:
            raise unknown(f"label of {source}", label, [str(name) for name in model.config.id2label.values()])
        self.label = names[label.casefold()]
        kind = model.config.problem_type
        self.apart = kind == "multi_label_classification" or model.config.num_labels == 1

    def __call__(self, samples: Sequence[str], prompts: Sequence[Prompt | str]) -> Tensor:
        return once_each(samples, self._score)

    @torch.no_grad()
    def _score(self, texts: list[str]) -> Tensor:
        parts = []
        for start in range(0, len(texts), BATCH):
            encoded = self.tokenizer(
                texts[start : start + BATCH], return_tensors="pt", padding=True, truncation=True, max_length=self.most
            ).to(self.device)
            logits = self.model(**encoded).logits.float()
            normal = torch.nn.functional.logsigmoid if self.apart else lambda z: torch.log_softmax(z, dim=-1)
            parts.append(normal(logits)[:, self.label])
        log_probability = torch.cat(parts).cpu()
        return log_probability if self.options.log else log_probability.exp()
