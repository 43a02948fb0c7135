"""Captions as texts: training data for a language model of the shapes world, and a reward for its sentences."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from steer import Prompt, Reward

from .captions import sample_training
from .grammar import words_read


def captions() -> Callable[[np.random.Generator], str]:
    """Return a source of captions of the training split."""
    return lambda rng: sample_training(rng).text()


class ShapesGrammar(Reward):
    """Whether a text is a caption of the shapes world: exactly 1 if it is, else the share of it that reads like one.

    The share is the words before parsing stops, divided by all words plus one for the missing end.
    """

    modality: ClassVar[str | None] = "text"
    needs_prompt: ClassVar[bool] = False

    def __call__(self, samples: Sequence[str], prompts: Sequence[Prompt | str]) -> Tensor:
        """Score N texts; float32 ``[N]`` in [0, 1]."""
        counts = [words_read(text) for text in samples]
        return torch.tensor([1.0 if read is None else read / (total + 1) for read, total in counts])
