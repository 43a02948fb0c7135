"""Sentences to train on: sources by name, local files, and mixtures of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from steer import SteerError
from steer.plugin import lines_of, manager, read_text, unknown

if TYPE_CHECKING:
    import numpy as np

Source = Callable[["np.random.Generator"], str]
"""Draws a sentence."""

DEFAULT = ("shapes-captions:0.75", "small-town:0.25")
"""Training data of the shipped model."""


def small_town() -> Source:
    """Return a source of the shipped sentences: everyday prose, written for this purpose, one per line."""
    return from_lines((resources.files("steer_text") / "corpus.txt").read_text(encoding="utf-8"), "corpus.txt")


def from_lines(text: str, name: str) -> Source:
    """Return a source that draws a text's lines uniformly; empty lines are left out."""
    lines = [line.strip() for line in lines_of(text) if line.strip()]
    if not lines:
        raise SteerError(f"{name} holds no sentence; expected one per line")
    return lambda rng: lines[rng.integers(len(lines))]


class Mixture:
    """Sources with their shares."""

    def __init__(self, names: Sequence[str]) -> None:
        """Look up the sources.

        Args:
            names: each ``NAME:SHARE`` or ``NAME``, for a registered source or a text file with one sentence per line.

        Raises:
            SteerError: for a name that is neither, or a share that is not a positive number.
        """
        self.names = tuple(names)
        parts = [_named(name) for name in names]
        self._sources = [source for source, _ in parts]
        import numpy as np

        shares = np.array([share for _, share in parts])
        self._shares = shares / shares.sum()

    def __call__(self, rng: np.random.Generator) -> str:
        """Draw a sentence."""
        return self._sources[rng.choice(len(self._sources), p=self._shares)](rng)

    def batch(self, rng: np.random.Generator, count: int) -> list[str]:
        """Draw sentences."""
        return [self(rng) for _ in range(count)]


def _named(text: str) -> tuple[Source, float]:
    name, colon, tail = text.rpartition(":")
    try:
        share = float(tail) if colon else 1.0
    except ValueError:
        name, share = text, 1.0
    if not colon:
        name = text
    if not 0 < share < float("inf"):
        raise SteerError(f"--data {text}: the share is {share:g}, expected a positive number")
    file = Path(name).expanduser()
    if file.is_file():
        return from_lines(read_text(file, "--data"), name), share
    known = manager().registry.data_of("texts")
    if name not in known:
        raise unknown("data", name, [*known, "a text file"])
    source: Source = known[name].load()()
    return source, share
