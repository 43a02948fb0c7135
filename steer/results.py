"""What sampling returns: samples, one item a prompt, and all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from steer.cost import Cost
from steer.prompts import Prompt
from steer.recipe import Recipe


@dataclass(frozen=True)
class Sample:
    """One particle at the end.

    Attributes:
        image: the decoded sample.
        slot: its slot; ``seed + slot`` seeded its noise.
        reward: its score, ``None`` without a reward.
        log_weight: its log importance weight.
        judge: scores of the held-out judges, by name; nothing was steered or chosen by them.
    """

    image: Image.Image
    slot: int
    reward: float | None
    log_weight: float
    judge: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """What one prompt came to.

    Attributes:
        prompt: the prompt.
        seed: the seed of its slot 0.
        samples: all particles, by slot.
        chosen: indices into ``samples``.
        trace: see :func:`steer.trace.trace_of`.
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


@dataclass(frozen=True)
class Result:
    """What :meth:`steer.api.Sampler.generate` returns: one item a prompt, and the cost of all."""

    items: tuple[Item, ...]
    cost: Cost

    @property
    def images(self) -> list[Image.Image]:
        """The chosen images of all prompts, in order."""
        return [image for item in self.items for image in item.images]

    @property
    def rewards(self) -> list[list[float | None]]:
        """Rewards ``[prompts][particles]``."""
        return [[sample.reward for sample in item.samples] for item in self.items]

    @property
    def trace(self) -> list[dict[str, Any]]:
        """One trace a prompt."""
        return [item.trace for item in self.items]

    def save(self, folder: str | Path) -> str:
        """Write images with their recipes, traces, a contact sheet and ``result.json``.

        Args:
            folder: a path or an fsspec URL.

        Returns:
            The folder's name.
        """
        from steer.output import OutputFolder

        output = OutputFolder(folder)
        for item in self.items:
            output.write(item)
        output.finish(self.cost)
        return output.storage.name
