"""From hooks to events: an observer that shows each step, changes nothing, and stops when it is told to."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Generator
from typing import Any

import torch
from PIL import Image

from steer import State, hookimpl
from steer.plugin import Run, event_rows, image_bytes, pictures

SIDE = 160
"""Pixels of a preview's longer side."""
MOST_SHOWN = 64
"""Particles of a prompt that are shown."""
MOST_PROMPTS = 16
"""Prompts in a pack whose steps are told: of a prompt file, only what is finished is of interest."""
MOST_LETTERS = 500
"""Letters of a text that are shown."""
UNSHOWN = ("tokens", "candidate")
"""Kinds of events that say nothing which the page shows."""

Tell = Callable[[str, dict[str, Any]], None]
"""Takes an event's kind and its data."""


class Stopped(BaseException):
    """Somebody stopped the run. Not an ``Exception``: nothing on the way may take it for a fault."""


class Observer:
    """Tells of each step: previews of x0 before the methods act, rewards, ESS and ancestors after."""

    def __init__(self, tell: Tell, stop: threading.Event, previews: int | None) -> None:
        """Args: tell: takes the events; stop: ends the run; previews: steps with pictures, ``None`` for each."""
        self._tell, self._stop, self._previews = tell, stop, previews
        self._seen = 0

    def check(self) -> None:
        """Raise if the run is to stop.

        Raises:
            Stopped: then.
        """
        if self._stop.is_set():
            raise Stopped

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """A population begins."""
        self.check()
        result = yield
        self._seen = len(state.events)
        return result

    @hookimpl(wrapper=True)
    def after_predict(self, state: State) -> Generator[None, Any, Any]:
        """Tell of x0 as the methods find it, and of what they do."""
        self.check()
        shown = self._pictures(state) if state.whole and self._due(state) else {}
        before = self._slots(state)
        result = yield
        self._tell_step(state, before, shown)
        return result

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Stop here, if so."""
        result = yield
        self.check()
        return result

    @hookimpl(wrapper=True)
    def finish(self, state: State) -> Generator[None, Any, Any]:
        """Tell of the finished particles."""
        self.check()
        shown = self._pictures(state) if self._previews != 0 else {}
        before = self._slots(state)
        result = yield
        if state.forwards.reward is not None:
            state.rewards()  # kept, for whoever chooses by them
        self._tell_step(state, before, shown)
        return result

    @hookimpl(wrapper=True)
    def after_round(self, run: Run, done: int, total: int | None) -> Generator[None, Any, Any]:
        """Tell of a search's round."""
        result = yield
        self._tell("round", {"done": done, "total": total})
        self.check()
        return result

    def _due(self, state: State) -> bool:
        if self._previews is None or self._previews >= state.steps:
            return True
        return self._previews > 0 and state.step in {
            round(number * state.steps / (self._previews + 1)) for number in range(self._previews)
        }

    @staticmethod
    def _slots(state: State) -> list[list[int]]:
        return [state.slot[state.rows_of(index)].tolist() for index in range(len(state.jobs))]

    def _tell_step(self, state: State, before: list[list[int]], shown: dict[tuple[int, int], str]) -> None:
        events, self._seen = state.events[self._seen :], len(state.events)
        if len(state.jobs) > MOST_PROMPTS:
            return
        for index, (job, slots) in enumerate(zip(state.jobs, before, strict=True)):
            if not slots:  # a search is done with this prompt
                continue
            data = {
                "prompt": job.prompt.id,
                "seed": job.seed,
                "draw": state.draw,
                "step": state.step,
                "steps": state.steps,
                "done": state.done,
                "particles": len(slots),
                "slots": slots[:MOST_SHOWN],
                "pictures": [shown[index, slot] for slot in slots[:MOST_SHOWN]] if shown else [],
                "events": [event for event in event_rows(events, index) if event["kind"] not in UNSHOWN],
            }
            self._tell("step", data)

    @staticmethod
    def _pictures(state: State) -> dict[tuple[int, int], str]:
        """Return the particles' x0 by prompt and slot: small pictures as data URLs, or texts."""
        medium = state.forwards.backbone.medium
        with torch.no_grad():
            samples = state.samples if state.done else state.glimpse()
            if medium.pictured:
                values = [_data_url(picture) for picture in pictures(_small(medium.stills(samples)))]
            else:
                values = [str(value)[:MOST_LETTERS] for value in medium.values(samples)]
        keys = zip(state.job.tolist(), state.slot.tolist(), strict=True)
        return dict(zip(keys, values, strict=True))


def _small(samples: torch.Tensor) -> torch.Tensor:
    """Return images ``[N, 3, H, W]`` with no side longer than :data:`SIDE`."""
    scale = SIDE / max(samples.shape[-2:])
    if scale >= 1:
        return samples
    size = [max(1, round(side * scale)) for side in samples.shape[-2:]]
    return torch.nn.functional.interpolate(samples.float(), size=size, mode="area")


def _data_url(picture: Image.Image) -> str:
    return f"data:image/webp;base64,{base64.b64encode(image_bytes(picture, 'WEBP', quality=80)).decode()}"
