"""``Subject``: a reward with samples and prompts to check it on; and the failure of a check."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.rewards.reward import RewardFunction, checked


class Failed(Exception):  # noqa: N818 - not an error of the program: the outcome of a check
    """The reward breaks the contract; the text says how."""


@dataclass(frozen=True)
class Subject:
    """A reward with samples ``[N, 3, H, W]`` and N >= 2 prompts to check it on."""

    name: str
    reward: RewardFunction
    samples: Tensor
    prompts: tuple[Prompt, ...]
    differentiable: bool

    def score(self, samples: Tensor | None = None, prompts: Sequence[Prompt] | None = None) -> Tensor:
        """Score without gradients; any exception fails the check."""
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
