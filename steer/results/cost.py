"""What a run has cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Cost:
    """Counters of a run; every forward is booked here, look-ahead and search included.

    Attributes:
        nfe: denoiser evaluations, one per particle and step, two with guidance.
        backwards: denoiser evaluations that a gradient went back through, each about as dear as two forwards.
        recomputed: evaluations made once more on the way back, because activations are not kept; not part of ``nfe``.
        decodes: samples decoded.
        reward_calls: samples scored.
        padding: denoiser evaluations spent on filling chunks up; not part of ``nfe``.
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
        """The denoiser's work in forward evaluations, a backward one counted as two."""
        return self.nfe + self.recomputed + 2 * self.backwards

    def as_dict(self) -> dict[str, float]:
        """Return the counters by name."""
        return asdict(self)
