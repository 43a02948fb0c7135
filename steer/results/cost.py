"""``Cost``: counters of a run's work."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

PARTS = 256
"""Evaluations that a cache shortened are counted in parts of this size, rounded up: sums of these are exact."""


@dataclass
class Cost:
    """Counters of a run's work; every forward is booked here, look-ahead and search included.

    Attributes:
        nfe: denoiser evaluations, one per particle and step, two with guidance; of those that a cache shortened, the
            share that was computed.
        backwards: denoiser evaluations in backward passes, each about as expensive as two forwards.
        recomputed: evaluations repeated in backward passes, because activations are not kept; not part of ``nfe``.
        decodes: samples decoded.
        reward_calls: samples scored.
        padding: denoiser evaluations of rows that fill chunks; not part of ``nfe``.
        seconds: wall time.
    """

    nfe: float = 0
    backwards: int = 0
    recomputed: int = 0
    decodes: int = 0
    reward_calls: int = 0
    padding: float = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    @property
    def forwards(self) -> float:
        """The denoiser's work in forward evaluations; a backward one counts as two."""
        return self.nfe + self.recomputed + 2 * self.backwards

    def as_dict(self) -> dict[str, float]:
        """Return the counters by name."""
        return asdict(self)


def exact(evaluations: float) -> float:
    """Return evaluations as they are counted: whole ones as ``int``, others rounded up to 1/256."""
    whole = math.ceil(evaluations * PARTS)
    return whole // PARTS if whole % PARTS == 0 else whole / PARTS
