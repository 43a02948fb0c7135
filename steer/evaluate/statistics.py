"""Confidence intervals over prompts, by bootstrap or by score tests."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_PROMPTS = 5
Z = float(stats.norm.ppf(0.975))
TINY = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap_mean(values: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of one value per prompt with its 95% bootstrap interval.

    Bias-corrected and accelerated (BCa; Efron 1987, JASA 82, eq. 6.6), its quantiles moved outward for Student's t and
    the sample's sd (Hesterberg 2015, arXiv 1411.5279, §5.3): percentiles alone are too narrow with few prompts, and
    one-sided with skewed values.

    For two methods on the same prompts, give the differences: the interval is then paired. The bootstrap resamples
    prompts; average a prompt's particles first, because they are not independent of each other.

    Args:
        values: one finite number per prompt, at least ``MIN_PROMPTS``.
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
    reach = math.sqrt(count / (count - 1)) * float(stats.t.ppf(0.975, count - 1))
    found = stats.bootstrap(
        (data,), np.mean, n_resamples=draws, confidence_level=1 - 2 * stats.norm.sf(reach), method="BCa", rng=seed
    )
    return Interval(mean, *map(float, found.confidence_interval))


def share(values: Sequence[float]) -> Interval:
    """Return the share of successes, one value in [0, 1] per prompt, with Wilson's 95% interval (1927, JASA 22).

    A bootstrap of eight successes in eight would claim certainty. Values between 0 and 1, as replicates or particles of
    a prompt give them, count as so many more or fewer prompts as their variance is smaller or larger than that of zeros
    and ones (Korn & Graubard 1998, Survey Methodology 24). scipy's interval takes only whole numbers of prompts.

    Raises:
        ValueError: for too few values, or others than 0 to 1.
    """
    data = _shares(values)
    count, rate = float(len(data)), float(data.mean())
    if not np.isin(data, (0.0, 1.0)).all() and data.var() > TINY:
        reach = Z / float(stats.t.ppf(0.975, count - 1))
        count *= rate * (1 - rate) / float(data.var()) * reach**2
    center = (rate + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(rate * (1 - rate) / count + Z * Z / (4 * count * count))
    return Interval(rate, min(rate, center - half), max(rate, center + half))


def win_rate(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return how often the first of two methods is better, over prompts; a tie counts as half a win.

    Args:
        first: one value per prompt.
        second: of the same prompts.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = balance(np.sign(difference).tolist())
    return Interval(*((value + 1) / 2 for value in (found.estimate, found.low, found.high)))


def difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the difference of two methods' shares of successes, paired over prompts, with its 95% interval.

    Tango's score interval (:func:`balance`) if every prompt succeeds or fails; the bootstrap of the differences if
    replicates or particles give shares of a prompt.

    Args:
        first: one value in [0, 1] per prompt.
        second: of the same prompts.
    """
    differences = _shares(first) - _shares(second)
    if np.isin(differences, (-1.0, 0.0, 1.0)).all():
        return balance(differences.tolist())
    return bootstrap_mean(differences.tolist())


def balance(signs: Sequence[float]) -> Interval:
    """Return the share of ones minus that of minus ones, with Tango's 95% score interval; zeros are ties.

    Tango 1998, Statistics in Medicine 17: the differences that a score test does not reject, its variance taken at
    each under that difference. If all signs are equal, a bootstrap would claim certainty.

    Args:
        signs: −1, 0 or 1 per prompt.

    Raises:
        ValueError: for too few values, or others.
    """
    data = _checked(signs)
    if not np.isin(data, (-1.0, 0.0, 1.0)).all():
        raise ValueError("expected -1, 0 and 1")
    count, ups, downs = len(data), int((data > 0).sum()), int((data < 0).sum())

    def score(delta: float) -> float:
        # the share of minus ones that is likeliest if the difference is delta solves a quadratic
        linear = (2 * count - ups + downs) * delta - ups - downs
        root = math.sqrt(max(linear**2 + 8 * count * downs * delta * (1 - delta), 0.0))
        variance = count * ((root - linear) / (2 * count) + delta * (1 - delta))
        return _standardized(ups - downs - count * delta, variance)

    estimate = (ups - downs) / count
    return Interval(estimate, _crossing(score, estimate, -1.0, Z), _crossing(score, estimate, 1.0, -Z))


def ratio(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return the ratio of two methods' shares, of failures for example, paired over prompts.

    With the 95% score interval of Nam & Blackwelder (2002, Statistics in Medicine 21) and Tang, Tang & Chan (2003, the
    same, 22): the ratios that a score test does not reject. With few failures left, percentiles of a
    bootstrap miss the truth in up to one case of four. Values between 0 and 1 enter with their design effect, their
    variance over that of zeros and ones of the same moments (Rao & Scott 1992, Biometrics 48); if all are equal, they
    count as zeros and ones.

    Args:
        first: one value in [0, 1] per prompt.
        second: of the same prompts.

    Returns:
        ``None`` if the second's mean is zero.

    Raises:
        ValueError: for too few values, or others than 0 to 1.
    """
    above, below = _shares(first), _shares(second)
    if below.sum() == 0:
        return None
    count, ones, twos, both = len(above), float(above.sum()), float(below.sum()), float((above * below).sum())
    either, squares = ones + twos - both, (float((above**2).sum()), float((below**2).sum()))

    def score(theta: float) -> float:
        # the share that only the second has which is likeliest if the ratio is theta solves a quadratic
        square, linear = count * (1 + theta), theta**2 * twos - (either + twos - both)
        root = math.sqrt(max(linear**2 - 4 * square * (twos - both) * (1 - theta) * either / count, 0.0))
        variance = square * (root - linear) / (2 * square) + (theta - 1) * either
        away = ((ones - theta * twos) / count) ** 2
        binary = (ones + theta**2 * twos - 2 * theta * both) / count - away
        actual = (squares[0] + theta**2 * squares[1] - 2 * theta * both) / count - away
        effect = actual / binary if min(actual, binary) > TINY else 1.0
        return _standardized(ones - theta * twos, variance * effect)

    estimate = ones / twos
    high = max(1.0, 2 * estimate)
    while score(high) > -Z:
        high *= 2
    return Interval(estimate, _crossing(score, estimate, 0.0, Z), _crossing(score, estimate, high, -Z))


def average(parts: Sequence[Interval]) -> Interval:
    """Return the mean of independent estimates, with its 95% interval from theirs.

    The method of variance estimates recovery (Zou, Huang & Zhang 2009, Computational Statistics & Data Analysis 53):
    the distances from the estimates to their limits add up as standard errors do, and stay one-sided where they are.

    Args:
        parts: one or more, of different prompts.
    """
    mean = sum(part.estimate for part in parts) / len(parts)
    below = math.hypot(*(part.estimate - part.low for part in parts)) / len(parts)
    above = math.hypot(*(part.high - part.estimate for part in parts)) / len(parts)
    return Interval(mean, mean - below, mean + above)


def percentile_interval(estimate: float, samples: NDArray[np.float64]) -> Interval:
    """Return an estimate with the 95% interval of its bootstrap samples ``[draws]``."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _standardized(away: float, variance: float) -> float:
    if variance > TINY:
        return away / math.sqrt(variance)
    return 0.0 if abs(away) < TINY else math.copysign(math.inf, away)


def _crossing(score: Callable[[float], float], estimate: float, end: float, level: float) -> float:
    """Return the point at which a falling score, zero at the estimate, reaches a level; at most ``end``."""
    near, far = estimate, end
    for _ in range(60):  # halving, because the score may be infinite at the end
        middle = (near + far) / 2
        if abs(score(middle)) < abs(level):
            near = middle
        else:
            far = middle
    return near


def _shares(values: Sequence[float]) -> NDArray[np.float64]:
    data = _checked(values)
    if data.min() < 0 or data.max() > 1:
        raise ValueError("a share is one of values from 0 to 1")
    return data


def _checked(values: Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < MIN_PROMPTS or not np.isfinite(data).all():
        raise ValueError(f"an interval needs at least {MIN_PROMPTS} finite values, got {data.shape}")
    return data
