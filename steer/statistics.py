"""Intervals for what a comparison claims: bootstrap over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_PROMPTS = 5


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval."""

    estimate: float
    low: float
    high: float

    @property
    def clear_of_zero(self) -> bool:
        """Whether zero is outside the interval."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.estimate:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap_mean(values: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of one value a prompt with its 95% percentile-bootstrap interval (Efron 1979).

    For two methods on the same prompts give the differences: the interval is then a paired one. Prompts are what
    is resampled; average a prompt's particles first, for they are not independent of each other.

    Args:
        values: one finite number a prompt, at least ``MIN_PROMPTS``.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: for too few values or one that is not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < MIN_PROMPTS or not np.isfinite(data).all():
        raise ValueError(f"an interval needs at least {MIN_PROMPTS} finite values, got {data.shape}")
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(data), np.full(len(data), 1 / len(data)), size=draws)
    return percentile_interval(float(data.mean()), counts @ data / len(data))


def percentile_interval(estimate: float, samples: NDArray[np.float64]) -> Interval:
    """Return an estimate with the 95% interval of its bootstrap samples ``[draws]``, whatever was resampled."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))
