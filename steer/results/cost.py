"""``Cost``: counters of a run's work."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Cost:
    """Counters of a run's work; every forward is booked here, look-ahead and search included.

    Attributes:
        nfe: denoiser evaluations, one per particle and step, two with guidance.
        backwards: denoiser evaluations in backward passes, each about as expensive as two forwards.
        recomputed: evaluations repeated in backward passes, because activations are not kept; not part of ``nfe``.
        decodes: samples decoded.
        reward_calls: samples scored.
        padding: denoiser evaluations of rows that fill chunks; not part of ``nfe``.
        seconds: wall time.
    """

    nfe: int = 0
    backwards: int = 0
    recomputed: int = 0
    decodes: int = 0
    reward_calls: int = 0
    padding: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    @property
    def forwards(self) -> int:
        """The denoiser's work in forward evaluations; a backward one counts as two."""
        return self.nfe + self.recomputed + 2 * self.backwards

    def as_dict(self) -> dict[str, float]:
        """Return the counters by name."""
        return asdict(self)
