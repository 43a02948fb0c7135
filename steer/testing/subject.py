"""``Subject``: a reward with samples and prompts to check it on; and the failure of a check.

Samples are pixels: of images ``[N, 3, H, W]``, of videos ``[N, F, 3, H, W]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.media.video import Videos
from steer.prompts.prompt import Prompt
from steer.rewards.checked import checked
from steer.rewards.combinations import Combination
from steer.rewards.frames import frames_of
from steer.rewards.reward import RewardFunction


class Failed(Exception):  # noqa: N818 - not an error of the program: the outcome of a check
    """The reward breaks the contract; the text says how."""


@dataclass(frozen=True)
class Subject:
    """A reward with N >= 2 samples and prompts to check it on."""

    name: str
    reward: RewardFunction
    samples: Tensor
    prompts: tuple[Prompt, ...]
    differentiable: bool

    def call(self, samples: Tensor, prompts: list[Prompt]) -> Tensor:
        """Call the reward on pixels as it is, frame by frame if it scores images and they are videos."""
        given = as_samples(samples)
        frames = frames_of(self.reward, given)
        if frames is None or isinstance(self.reward, Combination):
            return self.reward(given, prompts)
        return frames.scores(given, lambda images: self.reward(images, prompts))

    def score(self, samples: Tensor | None = None, prompts: Sequence[Prompt] | None = None) -> Tensor:
        """Score without gradients; any exception fails the check."""
        try:
            with torch.no_grad():
                return checked(
                    self.name,
                    self.reward,
                    as_samples((self.samples if samples is None else samples).clone()),
                    list(self.prompts if prompts is None else prompts),
                )
        except SteerError as error:
            raise Failed(str(error)) from None


def as_samples(pixels: Tensor) -> Any:
    """Return pixels as the samples that rewards take."""
    return Videos(pixels) if pixels.ndim == 5 else pixels
