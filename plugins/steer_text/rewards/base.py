"""The base of the text rewards."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from steer import Reward


class TextReward(Reward):
    """A reward of texts that reads no prompt, unless a subclass says so."""

    modality: ClassVar[str | None] = "text"
    needs_prompt: ClassVar[bool] = False


def once_each(texts: Sequence[str], score: Callable[[list[str]], Tensor]) -> Tensor:
    """Score every distinct text once, because draws of x0 repeat.

    Args:
        score: returns the scores ``[M]`` of M distinct texts.
    """
    distinct = list(dict.fromkeys(texts))
    scores = score(distinct)
    place = {text: number for number, text in enumerate(distinct)}
    return scores[torch.tensor([place[text] for text in texts], device=scores.device)]
