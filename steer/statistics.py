"""Intervals for what a comparison claims: bootstrap over prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_PROMPTS = 5
Z = float(stats.norm.ppf(0.975))


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
    """Return the mean of one value a prompt with its 95% bootstrap interval.

    Bias-corrected and accelerated (BCa; Efron 1987, JASA 82, eq. 6.6), its quantiles moved outwards as Student's t and
    the sample's sd ask for (Hesterberg 2015, arXiv 1411.5279, §5.3): percentiles alone are too narrow with few prompts,
    and one-sided with skewed values.

    For two methods on the same prompts give the differences: the interval is then a paired one. Prompts are what
    is resampled; average a prompt's particles first, for they are not independent of each other.

    Args:
        values: one finite number a prompt, at least ``MIN_PROMPTS``.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: for too few values or one that is not finite.
    """
    data = _checked(values)
    count, mean = len(data), float(data.mean())
    away = data - mean
    if not np.abs(away).max() > 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    means = counts @ data / count
    # ties, as binary values have many of, count half
    below = float((means < mean).mean() + 0.5 * (means == mean).mean())
    bias = float(stats.norm.ppf(min(max(below, 0.5 / draws), 1 - 0.5 / draws)))
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    reach = math.sqrt(count / (count - 1)) * float(stats.t.ppf(0.975, count - 1))
    shares = [stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z))) for z in (-reach, reach)]
    low, high = np.quantile(means, shares)
    return Interval(mean, float(low), float(high))


def share(successes: Sequence[float]) -> Interval:
    """Return the share of ones among zeros and ones, one a prompt, with Wilson's 95% interval (1927, JASA 22).

    A bootstrap of eight successes in eight would claim certainty.

    Raises:
        ValueError: for too few values, or others than 0 and 1.
    """
    data = _checked(successes)
    if not np.isin(data, (0.0, 1.0)).all():
        raise ValueError("a share is one of zeros and ones")
    count, rate = len(data), float(data.mean())
    center = (rate + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(rate * (1 - rate) / count + Z * Z / (4 * count * count))
    return Interval(rate, min(rate, center - half), max(rate, center + half))


def win_rate(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return how often the first of two methods is better, over prompts; a draw is half a win.

    Args:
        first: one value a prompt.
        second: of the same prompts.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return bootstrap_mean(((np.sign(difference) + 1) / 2).tolist())


def ratio(first: Sequence[float], second: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> Interval | None:
    """Return the mean of one method over that of another, paired over prompts, with its 95% percentile interval.

    Args:
        first: one value a prompt, none negative: failures, for example.
        second: of the same prompts.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        ``None`` where the second's mean is zero. Bootstrap samples in which it is count as infinite.
    """
    above, below = _checked(first), _checked(second)
    if below.sum() == 0:
        return None
    count = len(above)
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num((counts @ above) / (counts @ below), nan=np.inf, posinf=np.inf)
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def percentile_interval(estimate: float, samples: NDArray[np.float64]) -> Interval:
    """Return an estimate with the 95% interval of its bootstrap samples ``[draws]``, whatever was resampled."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _checked(values: Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < MIN_PROMPTS or not np.isfinite(data).all():
        raise ValueError(f"an interval needs at least {MIN_PROMPTS} finite values, got {data.shape}")
    return data
