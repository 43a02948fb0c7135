"""What the checks of a reward look at, and how one of them fails."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.rewards.reward import RewardFunction, checked


class Failed(Exception):  # noqa: N818 - not an error of the program: the outcome of a check
    """A check that found the contract broken; its text says how."""


@dataclass(frozen=True)
class Subject:
    """A reward with what it is tried on: samples ``[N, 3, H, W]`` with N >= 2 prompts."""

    name: str
    reward: RewardFunction
    samples: Tensor
    prompts: tuple[Prompt, ...]
    differentiable: bool

    def score(self, samples: Tensor | None = None, prompts: Sequence[Prompt] | None = None) -> Tensor:
        """Score without gradients; whatever goes wrong fails the check."""
        try:
            with torch.no_grad():
                return checked(
                    self.name,
                    self.reward,
                    (self.samples if samples is None else samples).clone(),
                    list(self.prompts if prompts is None else prompts),
                )
        except SteerError as error:
            raise Failed(str(error)) from None
