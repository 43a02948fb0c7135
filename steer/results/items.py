"""What sampling returns: samples, one item a prompt, and all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steer.models.texts import Texts
from steer.prompts.prompt import Prompt
from steer.results.recipe import Recipe


@dataclass(frozen=True)
class Sample:
    """One particle at the end.

    Attributes:
        value: the decoded sample, an image or a text.
        slot: its slot; ``seed + slot`` seeded its noise.
        reward: its score, ``None`` without a reward.
        log_weight: its log importance weight.
        judge: scores of the held-out judges, by name; nothing was steered or chosen by them.
    """

    value: Image.Image | str
    slot: int
    reward: float | None
    log_weight: float
    judge: Mapping[str, float] = field(default_factory=dict)

    @property
    def image(self) -> Image.Image:
        """The image; an error if it is a text."""
        if isinstance(self.value, str):
            raise TypeError("this sample is a text: use .text")
        return self.value

    @property
    def text(self) -> str:
        """The text; an error if it is an image."""
        if not isinstance(self.value, str):
            raise TypeError("this sample is an image: use .image")
        return self.value


def finished(samples: Tensor | Texts) -> tuple[list[Image.Image] | list[str], dict[str, int]]:
    """Return decoded samples as values of :class:`Sample`, and the settings that tell their size: of images alone."""
    if isinstance(samples, Texts):
        return list(samples), {}
    pixels = (samples * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image) for image in pixels], {"width": pixels.shape[2], "height": pixels.shape[1]}


@dataclass(frozen=True)
class Item:
    """What one prompt came to.

    Attributes:
        prompt: the prompt.
        seed: the seed of its slot 0.
        samples: all particles, by slot.
        chosen: indices into ``samples``.
        trace: see :func:`steer.sampling.trace.trace_of`.
        recipe: reproduces it.
    """

    prompt: Prompt
    seed: int
    samples: tuple[Sample, ...]
    chosen: tuple[int, ...]
    trace: dict[str, Any]
    recipe: Recipe

    @property
    def images(self) -> list[Image.Image]:
        """The chosen images."""
        return [self.samples[index].image for index in self.chosen]

    @property
    def texts(self) -> list[str]:
        """The chosen texts."""
        return [self.samples[index].text for index in self.chosen]

    @property
    def modality(self) -> str:
        """What the samples are: ``"image"`` or ``"text"``."""
        return "text" if isinstance(self.samples[0].value, str) else "image"

    @property
    def reward(self) -> float | None:
        """Reward of the first chosen sample."""
        return self.samples[self.chosen[0]].reward

    @property
    def mean_reward(self) -> float | None:
        """Mean reward over all particles, each counted once."""
        values = [sample.reward for sample in self.samples if sample.reward is not None]
        return sum(values) / len(values) if values else None

    @property
    def judge(self) -> Mapping[str, float]:
        """Judges' scores of the first chosen sample."""
        return self.samples[self.chosen[0]].judge
