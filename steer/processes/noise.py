"""Addressed randomness: a particle's noise depends on its prompt and slot, never on the rest of the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

SEED_SPACE = 2**32
"""torch's CPU generator gives s and s + 2³² the same stream, so seeds live in 0..2³²−1."""


def hashed_seed(*key: object) -> int:
    """Return a seed in 0..2³²−1 that is a hash of ``key``."""
    return int.from_bytes(_digest(key)[:4], "little")


def keyed(
    seed: int, prompt_id: str, purpose: str, *, slot: int = 0, step: int = 0, draw: int = 0
) -> np.random.Generator:
    """Return the counter-based generator (Philox) addressed by the key.

    Used for everything except a particle's own noise: resampling, rollouts, weighted choice, search.
    """
    digest = _digest((seed, prompt_id, purpose, slot, step, draw))
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def slot_generator(seed: int, slot: int) -> torch.Generator:
    """Return the CPU generator of a particle slot: seeded ``seed + slot``, the convention users know."""
    return torch.Generator("cpu").manual_seed((seed + slot) % SEED_SPACE)


class Streams:
    """The noise streams of a population, one CPU generator per slot.

    Initial noise and then each transition's noise are drawn from a slot's stream in order, as in a stock diffusers
    pipeline with the same generators.
    """

    def __init__(self, generators: Iterable[torch.Generator]) -> None:
        """Args: generators: one for each row."""
        self.generators = list(generators)

    @classmethod
    def seeded(cls, seeds: Sequence[int], slots: Sequence[int]) -> Streams:
        """Return fresh streams for rows with the given prompt seeds and slots."""
        return cls(slot_generator(seed, slot) for seed, slot in zip(seeds, slots, strict=True))

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """Draw standard normal noise ``[N, *shape]`` in fp32, row by row on the CPU, then move it."""
        rows = [torch.randn(1, *shape, generator=generator) for generator in self.generators]
        return torch.cat(rows).to(device)

    def uniform(self, shape: Sequence[int], device: torch.device | str) -> Tensor:
        """Draw from [0, 1) ``[N, *shape]`` in fp64, row by row on the CPU, then move it, unless the device has no fp64.

        For categorical draws: with 24 bits, rare tokens of a large vocabulary would be drawn too seldom (arXiv
        2409.02908, §4).
        """
        rows = [torch.rand(1, *shape, generator=generator, dtype=torch.float64) for generator in self.generators]
        return torch.cat(rows).to("cpu" if torch.device(device).type == "mps" else device)

    def keep(self, rows: Sequence[int]) -> Streams:
        """Return the streams of the given rows (the generators themselves, not copies)."""
        return Streams(self.generators[row] for row in rows)

    def extend(self, other: Streams) -> Streams:
        """Return these streams followed by the other's."""
        return Streams([*self.generators, *other.generators])


def _digest(key: tuple[object, ...]) -> bytes:
    # repr of str and int is injective, so that ("a", 11) and ("a1", 1) differ
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
