"""``Engine``, the protocol of what plans and renders packs, and its groups and packs."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from steer.prompts.prompt import Prompt
from steer.render.outcomes import Outcome

Pack = Sequence[Prompt]


@dataclass(frozen=True)
class PlannedGroup:
    """Prompts with equal settings, split into packs, and the cost of each prompt.

    Attributes:
        packs: the prompts, pack by pack.
        settings: as resolved from methods, user and model.
        nfe: denoiser evaluations per prompt, for one pass; a method that searches may take more, one that drops
            particles takes less.
        images: images per prompt.
        size: width and height in pixels; for texts, tokens and 1.
        modality: of the samples, such as ``"image"`` or ``"text"``.
        frames: of each sample; 1 unless it is a video.
        drops: whether a method drops particles on the way.
    """

    packs: tuple[Pack, ...]
    settings: Mapping[str, Any]
    nfe: int
    images: int
    size: tuple[int, int]
    modality: str = "image"
    frames: int = 1
    drops: bool = False

    @property
    def count(self) -> int:
        """Prompts."""
        return sum(map(len, self.packs))


class Engine(abc.ABC):
    """Renders packs of prompts.

    Attributes:
        dtype: precision of the weights as resolved.
        searching: whether a method owns an outer loop, so that the cost is known only afterward.
    """

    dtype: str
    searching: bool

    @abc.abstractmethod
    def plan(self, prompts: Sequence[Prompt]) -> list[PlannedGroup]:
        """Group prompts and split the groups into packs.

        Raises:
            SteerError: for every mistake in the settings, before anything is computed.
        """

    @abc.abstractmethod
    def outcomes(self, packs: Sequence[Pack], stop: Event) -> Iterator[Outcome]:
        """Render packs; once ``stop`` is set, finish those in flight and start no other."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the engine's resources."""
