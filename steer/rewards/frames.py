"""Which frames of a video a reward of images scores, and how their scores become one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.media import media_of
from steer.models.media.video import Videos, spread

FRAMES = "frames"
"""The option that every reward of images has for videos, and the attribute of a function."""
EXPECTED = (
    "first, last, uniform:K or uniform:K:min (K frames from the first to the last: the mean, or the lowest score)"
)


@dataclass(frozen=True)
class Frames:
    """Frames of a video, and the rule for their scores.

    Attributes:
        text: as written, one of :data:`EXPECTED`.
        count: of the frames; a shorter video gives all it has.
        least: whether the lowest score counts, instead of the mean.
    """

    text: str
    count: int = 1
    least: bool = False

    @classmethod
    def parse(cls, text: object) -> Frames:
        """Read ``uniform:4`` and the like.

        Raises:
            SteerError: for anything else.
        """
        if isinstance(text, Frames):
            return text
        found = re.fullmatch(r"(?:first|last|uniform:([1-9]\d{0,4})(:min)?)", str(text))
        if found is None:
            raise SteerError(f"frames={str(text)[:60]!r}: expected {EXPECTED}")
        return cls(str(text), int(found[1] or 1), found[2] is not None)

    def indices(self, of: int) -> list[int]:
        """Return the frames to score among ``of``."""
        return {"first": [0], "last": [of - 1]}.get(self.text) or spread(self.count, of)

    def scores(self, samples: Videos, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Return one score per video, ``[N]``.

        Args:
            samples: N videos.
            score: of images ``[N, 3, H, W]``; it gets one frame of each video at a time, so that it takes no more
                memory than for images.
        """
        images = samples.frames(self.indices(samples.count)).unbind(dim=1)
        scores = torch.stack([score(part) for part in images], dim=1)
        return scores.amin(dim=1) if self.least else scores.mean(dim=1)


USUAL = Frames("uniform:4", 4)
"""If nobody says otherwise."""


def frames_of(reward: object, samples: Any) -> Frames | None:
    """Return how a reward scores some samples frame by frame; ``None`` if it takes them as they are.

    A function that declares no ``modality`` takes them frame by frame; a reward whose ``frames`` is ``None`` never.
    """
    wanted, parts = getattr(reward, FRAMES, USUAL), media_of("video").made_of
    if wanted is None or not isinstance(samples, Videos) or (getattr(reward, "modality", None) or parts) != parts:
        return None
    return Frames.parse(wanted)
