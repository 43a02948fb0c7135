"""Scenes that move: one plain object and its motion, with a sentence such as ``"a small red circle moving left"``.

sentence := phrase of one object, without a texture  motion
motion   := "moving left" | "moving right" | "moving up" | "moving down" | "standing still"
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .captions import split_of
from .grammar import Phrase, PromptError, parse_prompt
from .layout import EDGE
from .render import render_batch
from .scenes import CANVAS, COLORS, RADII, SHAPES, SIZES, Scene, SceneObject

MOTIONS = {
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "still": "standing still",
}
"""Motions and their words."""
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
"""Motions to their direction (x to the right, y down)."""
FRAMES = 9
FPS = 8
TRAVEL = (16.0, 30.0)
"""Range of the way from the first to the last frame, in pixels."""
SIZE_SHARE = 0.4
"""Share of training sentences that name the size."""


@dataclass(frozen=True, slots=True)
class Moving:
    """What a sentence asks for: one object, and a motion of :data:`MOTIONS`."""

    phrase: Phrase
    motion: str

    def text(self) -> str:
        """The sentence; :func:`parse_moving` turns it back."""
        return f"{self.phrase.text()} {MOTIONS[self.motion]}"

    @property
    def split(self) -> str:
        """The split of its color, shape and motion, whatever its size: a held-out combination is in no training set."""
        return split_of(replace(self, phrase=replace(self.phrase, size=None)).text())


def parse_moving(text: str) -> Moving:
    """Parse a sentence; case, spacing and a final period do not matter.

    Raises:
        PromptError: naming the sentence and what was expected.
    """
    words = text.strip().removesuffix(".").lower().split()
    motion = next((name for name, said in MOTIONS.items() if words[-2:] == said.split()), None)
    if motion is None:
        raise PromptError(
            f"{text!r} ends with no motion; expected {', '.join(MOTIONS.values())}, as in 'a red circle moving left'"
        )
    asked = parse_prompt(" ".join(words[:-2]))
    if asked.total != 1 or asked.phrases[0].texture is not None:
        raise PromptError(f"{text!r}: what moves is one plain object (example: 'a red circle moving left')")
    return Moving(asked.phrases[0], motion)


def held_out(split: str) -> list[Moving]:
    """Return all combinations of color, shape and motion of a split, sizes left open, in a fixed order."""
    every = (Moving(Phrase(shape, color), motion) for motion, shape, color in product(MOTIONS, SHAPES, COLORS))
    return [asked for asked in every if asked.split == split]


def sample_moving(rng: np.random.Generator, split: str = "train") -> Moving:
    """Draw a sentence of a split; some name the size."""
    while True:
        size = _pick(rng, SIZES) if rng.random() < SIZE_SHARE else None
        asked = Moving(Phrase(_pick(rng, SHAPES), _pick(rng, COLORS), size), _pick(rng, tuple(MOTIONS)))
        if asked.split == split:
            return asked


def move(asked: Moving, rng: np.random.Generator) -> list[Scene]:
    """Draw one scene per frame that show what is asked for; what is left open is random."""
    size = asked.phrase.size or _pick(rng, SIZES)
    radius = rng.uniform(*RADII[size])
    low, high = radius + EDGE, CANVAS - radius - EDGE
    way = rng.uniform(*TRAVEL) * np.array(DIRECTIONS[asked.motion])
    # the first place is such that the last one is on the canvas too
    start = rng.uniform(low + np.maximum(-way, 0), high - np.maximum(way, 0))
    color = asked.phrase.color or _pick(rng, COLORS)
    places = start + np.linspace(0, 1, FRAMES)[:, None] * way
    return [(SceneObject(asked.phrase.shape, color, size, "plain", float(x), float(y), radius),) for x, y in places]


def render_moving(asked: Moving, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a video ``[9, 64, 64, 3]`` of what is asked for."""
    return render_batch(move(asked, rng))


def _pick(rng: np.random.Generator, values: tuple[str, ...]) -> str:
    return values[rng.integers(len(values))]
