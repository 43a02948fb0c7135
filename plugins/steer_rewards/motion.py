"""How much a video moves, and how much it flickers.

Both look at three frames in a row, x₋, x, x₊, with levels in [0, 1], and are means over pixels, channels and all inner
frames. What the third frame takes back is flicker; what lasts is motion:

* flicker: min(|x − x₋|, |x₊ − x|) if the two changes have opposite signs, else 0;
* motion: |x₊ − x₋| / 2, a change per frame.

A still video has neither. Black and white in turns is flicker 1 and motion 0. A square of side s that moves by v ≤ s/2
pixels a frame over W×H pixels is flicker 0 and motion 2·v·s/(W·H), its contrast times that.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from steer import Prompt, Reward, SteerError
from steer.plugin import Videos


class Motion(Reward):
    """The amount of motion, 0…1: the change of levels per frame that lasts two frames. Ignores the prompt."""

    modality: ClassVar[str | None] = "video"
    needs_prompt = False
    differentiable = True

    def __call__(self, samples: Videos, prompts: Sequence[Prompt | str]) -> Tensor:
        return _mean("motion", samples, lambda before, middle, after: (after - before).abs() / 2)


class Flicker(Reward):
    """Minus the flicker, −1…0: the change of levels that the next frame takes back. Ignores the prompt."""

    modality: ClassVar[str | None] = "video"
    needs_prompt = False
    differentiable = True

    def __call__(self, samples: Videos, prompts: Sequence[Prompt | str]) -> Tensor:
        return -_mean("flicker", samples, _taken_back)


def _taken_back(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    first, second = middle - before, after - middle
    return torch.minimum(first.abs(), second.abs()) * (first * second < 0)


def _mean(name: str, samples: Videos, measure: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean over pixels, channels and inner frames of a measure of three frames in a row, ``[N]``."""
    if samples.count < 3:
        raise SteerError(f"reward {name!r} compares 3 frames, and a video here has {samples.count}: give longer ones")
    parts = samples.chunks(overlap=2)
    by_frame = [measure(part[:, :-2], part[:, 1:-1], part[:, 2:]).mean(dim=(2, 3, 4)) for part in parts]
    return torch.cat(by_frame, dim=1).mean(dim=1)
