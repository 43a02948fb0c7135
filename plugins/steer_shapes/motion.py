"""Rewards of videos of the embedded world: ``shapes-video``, the verifier, and ``shapes-moving`` for steering."""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from steer import Prompt
from steer.plugin import Videos

from .detector import Reading
from .learned import ReadsDetector, center, present
from .moving import DIRECTIONS, Moving, parse_moving
from .sentence_reward import SentenceReward
from .verifier import Detection, parse_images

MOST = 0.75
"""Share of the frames in which an attribute must be right."""
LEAST_WAY = 8.0
"""Pixels from the first to the last frame that count as moving; rendered objects move at least twice as far."""
STILL = 4.0
"""Pixels that still count as standing still."""

_parsed = lru_cache(maxsize=4096)(parse_moving)


class ShapesVideo(SentenceReward):
    """Share of a sentence's parts that a video shows, in [0, 1]; exactly 1 if and only if it shows all.

    The parts are the shape, the color, the size if it is named, the motion, and that there is one object. The verifier
    finds the objects of every frame; all but the motion must be right in three quarters of them.
    """

    modality: ClassVar[str | None] = "video"
    differentiable = False
    parse = staticmethod(_parsed)

    def __call__(self, samples: Videos, prompts: Sequence[Prompt | str]) -> Tensor:
        """Score N videos against N sentences; float32 ``[N]``.

        Raises:
            PromptError: for a sentence that is none of :mod:`steer_shapes.moving`.
        """
        asked = [_parsed(str(prompt)) for prompt in prompts]
        parts = [self.met(frames, one).values() for frames, one in zip(self.read(samples), asked, strict=True)]
        return torch.tensor([sum(met) / len(met) for met in parts], dtype=torch.float32, device=samples.device)

    def read(self, samples: Videos) -> list[list[list[Detection]]]:
        """Return the objects of each frame of each video, largest first."""
        by_frame = [parse_images(frame) for frame in samples.each()]
        return [list(frames) for frames in zip(*by_frame, strict=True)]

    def met(self, frames: Sequence[Sequence[Detection]], asked: Moving) -> dict[str, bool]:
        """Return for each part of a sentence whether the objects found in a video's frames show it."""
        largest = [objects[0] if objects else None for objects in frames]
        looks = {name: getattr(asked.phrase, name) for name in ("shape", "color", "size")}
        found = {
            name: _mostly([getattr(one, name, None) == wanted for one in largest])
            for name, wanted in looks.items()
            if wanted is not None
        }
        found["motion"] = motion_of(largest) == asked.motion
        found["one object"] = _mostly([len(objects) == 1 for objects in frames])
        return found


def motion_of(objects: Sequence[Detection | None]) -> str | None:
    """Return the motion of an object by its places in consecutive frames; ``None`` if it is none of the known.

    A line is fitted to the places. It counts only if they are within 3 pixels of it (root mean square).
    """
    seen = [(time, one.cx, one.cy) for time, one in enumerate(objects) if one is not None]
    if len(seen) < max(2, MOST * len(objects)):
        return None
    times, *places = np.array(seen).T
    lines = np.polyfit(times, np.stack(places, axis=1), 1)  # [2, 2]: slopes, places at time 0
    off = np.stack(places, axis=1) - np.outer(times, lines[0]) - lines[1]
    way = lines[0] * (len(objects) - 1)
    if np.sqrt((off**2).sum(axis=1).mean()) > 3:
        return None
    if np.abs(way).max() < STILL:
        return "still"
    for name, direction in DIRECTIONS.items():
        along = float(way @ np.array(direction))
        if along >= LEAST_WAY and float(np.abs(way).min()) <= along / 2:
            return name
    return None


def _mostly(right: Sequence[bool]) -> bool:
    return sum(right) >= MOST * len(right)


class ShapesMoving(ReadsDetector):
    """How well the first, the middle and the last frame show a sentence, in 0..1, by the embedded detector.

    The mean of two scores: whether the object is in the three frames, and whether the center of all objects moves as
    the sentence says from the first to the last. It sees no other frame, and does not count objects.
    """

    modality: ClassVar[str | None] = "video"
    parse = staticmethod(_parsed)

    def __call__(self, samples: Videos, prompts: Sequence[Prompt | str]) -> Tensor:
        """Score N videos against N sentences; float32 ``[N]``.

        Raises:
            PromptError: for a sentence that is none of :mod:`steer_shapes.moving`.
        """
        asked = [_parsed(str(prompt)) for prompt in prompts]
        frames = samples.frames([0, samples.count // 2, samples.count - 1]).to(self.device)
        readings = [self._read(frame) for frame in frames.unbind(dim=1)]
        return torch.stack([_score(readings, row, one) for row, one in enumerate(asked)])


def _score(readings: Sequence[Reading], row: int, asked: Moving) -> Tensor:
    there = torch.stack([present(reading.mass(row, asked.phrase)) for reading in readings]).mean()
    first, last = (torch.stack(center(reading.density[row])) for reading in (readings[0], readings[-1]))
    return (there + _moved(last - first, asked.motion)) / 2


def _moved(way: Tensor, motion: str) -> Tensor:
    """Return how well a way ``[2]`` in pixels fits a motion, in 0..1."""
    if motion == "still":
        return torch.exp(-0.5 * (way / STILL).square().sum())
    direction = torch.tensor(DIRECTIONS[motion], dtype=way.dtype, device=way.device)
    along = way @ direction
    across = (way - along * direction).square().sum()
    return torch.sigmoid((along - LEAST_WAY) / 2) * torch.exp(-0.5 * across / LEAST_WAY**2)
