"""Previews: pictures of x0 at some steps, for the page, made by an observer that changes nothing."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steer.models.media.image import image_bytes, pixels_of
from steer.registry.registration import hookimpl
from steer.results.items import Item
from steer.sampling.state import State

SIDE = 96
"""Pixels of a frame's longer side."""


@dataclass(frozen=True)
class _Frame:
    """Small pictures of all particles of a pack at one step, by prompt and slot."""

    step: int
    rows: dict[tuple[str, int], int]
    pictures: np.ndarray


class Previews:
    """Decodes x0 at a few steps, after the methods' hooks; the decodes are booked in the run's cost."""

    def __init__(self, count: int) -> None:
        """Args: count: number of steps to picture, spread evenly; 1 or more."""
        self._count = count
        self._frames: list[_Frame] = []

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """Forget the previous pack."""
        result = yield
        self._frames = []
        return result

    @hookimpl(wrapper=True)
    def after_predict(self, state: State) -> Generator[None, Any, Any]:
        """Keep small pictures of x0 at the chosen steps."""
        result = yield
        if state.forwards.backbone.medium.pictured and state.step in _spread(state.steps, self._count):
            with torch.no_grad():
                samples = state.forwards.backbone.medium.stills(state.glimpse())
            ids = [state.jobs[job].prompt.id for job in state.job.tolist()]
            rows = {key: row for row, key in enumerate(zip(ids, state.slot.tolist(), strict=True))}
            self._frames.append(_Frame(state.step, rows, _small(samples)))
        return result

    def strips(self, item: Item) -> dict[int, bytes]:
        """Return, for each chosen slot, its ancestors' pictures side by side as WebP, earliest first."""
        resamplings = [event for event in item.trace["events"] if event["kind"] == "resample"]
        strips = {}
        for slot in (item.samples[index].slot for index in item.chosen):
            frames = []
            for frame in self._frames:
                row = frame.rows.get((item.prompt.id, _ancestor(slot, frame.step, resamplings)))
                if row is not None:
                    frames.append(frame.pictures[row])
            if frames:
                strip = Image.fromarray(np.concatenate(frames, axis=1))
                strips[slot] = image_bytes(strip, "WEBP", quality=80)
        return strips


def _ancestor(slot: int, step: int, resamplings: list[dict[str, Any]]) -> int:
    """Return the slot that a particle's content was in after the hooks of a step."""
    for event in reversed(resamplings):
        if event["step"] > step and slot in event["slots"]:
            slot = event["ancestors"][event["slots"].index(slot)]
    return slot


def _spread(steps: int, count: int) -> set[int]:
    """Return ``count`` steps spread evenly over all, the first among them; the last is the image itself."""
    if count >= steps:
        return set(range(steps))
    return {round(number * steps / (count + 1)) for number in range(count)}


def _small(samples: Tensor) -> np.ndarray:
    """Return uint8 ``[N, h, w, 3]``, no side longer than ``SIDE``."""
    scale = SIDE / max(samples.shape[-2:])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in samples.shape[-2:]]
        samples = torch.nn.functional.interpolate(samples, size=size, mode="area")
    return pixels_of(samples)
