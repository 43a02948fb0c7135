"""Packs: prompts with equal settings that go through the loop together, in full batches."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer.prompts.prompt import Prompt

PACK_ROWS = 64
"""Most particles that go through the loop together; no result depends on it."""

PACK_PIXELS = PACK_ROWS * 512 * 512
"""Pixels of finished images held at a time; larger images go through in smaller packs."""


@dataclass(frozen=True)
class Group:
    """Prompts with the same settings and options of their own.

    Attributes:
        prompts: in the order given.
        settings: fields of a run that these prompts set for themselves.
        options: options of methods that they set for themselves.
    """

    prompts: tuple[Prompt, ...]
    settings: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]

    def packs(self, size: int) -> list[tuple[Prompt, ...]]:
        """Split into packs of ``size`` prompts; the last may be smaller."""
        return [self.prompts[start : start + size] for start in range(0, len(self.prompts), size)]


def group_alike(prompts: Iterable[Prompt]) -> list[Group]:
    """Group prompts by their own settings; groups and their prompts keep the order given."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        key = repr((_sorted(prompt.settings), {owner: _sorted(table) for owner, table in _sorted(prompt.options)}))
        groups.setdefault(key, []).append(prompt)
    return [Group(tuple(members), members[0].settings, members[0].options) for members in groups.values()]


def pack_size(particles: int, chunk: int, pixels: int, rows: int = PACK_ROWS) -> int:
    """Return the number of prompts per pack: as many as memory takes, rounded down to full chunks if possible.

    Args:
        particles: rows per prompt.
        chunk: rows per forward; a chunk that is not full is padded, which costs as much.
        pixels: of one image.
        rows: particles at most; ``chunk`` gives the smallest packs that fill one.
    """
    most = max(1, min(rows, max(chunk, PACK_PIXELS // pixels)) // particles)
    filling = chunk // math.gcd(chunk, particles)  # this many prompts fill whole chunks
    return most // filling * filling or most


def halves(pack: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """Split a pack in two, to find the prompt at fault; a pack of one stays whole."""
    middle = len(pack) // 2
    return [part for part in (pack[:middle], pack[middle:]) if part]


def _sorted(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(table.items())
