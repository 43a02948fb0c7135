"""Category weights from ratings: each reward's rank correlation with them, within each category. Pure functions."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from steer.plugin import Interval, percentile_interval

FEW_RATINGS, FEW_PROMPTS = 40, 8
"""Below either of these, a warning says that a category has too few ratings."""
LEAST_RATINGS = 4
"""With fewer ratings, a category gets no weights."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """Rated images of one category.

    Attributes:
        rating: ``[n]``, higher is better.
        scores: by reward, ``[n]``.
        prompt: ``[n]``, the prompt index of each image.
    """

    rating: Floats
    scores: Mapping[str, Floats]
    prompt: NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """The result for one category.

    Attributes:
        correlation: by reward, with a 95% interval over prompts.
        weight: by reward; the mean over rewards is 1.
        ratings: number of images.
        prompts: number of prompts.
        doubts: reasons not to trust the weights, one line each.
    """

    correlation: dict[str, Interval]
    weight: dict[str, Interval]
    ratings: int
    prompts: int
    doubts: tuple[str, ...]


def calibrate(ratings: Ratings, *, within: bool = False, draws: int = 1000, seed: int = 0) -> Calibration | None:
    """Return a category's weights, or ``None`` if its ratings determine none.

    A weight is a reward's correlation divided by the mean of all, as in the paper's table; a negative correlation gets
    0. Intervals are percentile bootstraps over prompts, because a prompt's images are not independent. With a single
    prompt, they are over its images.

    Args:
        within: subtract each prompt's mean rank first, so that only the order among a prompt's images counts. A search
            chooses by this order; low scores for hard prompts do not make a reward useful.
        draws: bootstrap samples.
    """
    names = list(ratings.scores)
    count = len(ratings.rating)
    if count < LEAST_RATINGS or np.ptp(ratings.rating) == 0:
        return None
    scores = np.stack([ratings.scores[name] for name in names])
    estimate = correlations(ratings.rating, scores, ratings.prompt if within else None)
    if not (estimate > 0).any():
        return None
    prompts = len(np.unique(ratings.prompt))
    within &= prompts > 1
    units = ratings.prompt if prompts > 1 else np.arange(count)  # resampling a single prompt would never vary
    drawn = []
    for rows, prompt in resampled(units, draws, np.random.default_rng(seed)):
        if np.ptp(ratings.rating[rows]):
            drawn.append(correlations(ratings.rating[rows], scores[:, rows], prompt if within else None))
    samples = np.stack([row for row in drawn if (row > 0).any()] or [estimate])
    weights = shares(samples)
    return Calibration(
        {name: percentile_interval(float(e), s) for name, e, s in zip(names, estimate, samples.T, strict=True)},
        {name: percentile_interval(float(e), s) for name, e, s in zip(names, shares(estimate), weights.T, strict=True)},
        count,
        prompts,
        tuple(_doubts(names, estimate, samples, count, prompts)),
    )


def correlations(rating: Floats, scores: Floats, prompt: NDArray[np.int64] | None = None) -> Floats:
    """Return Spearman's correlation of the rating ``[n]`` with each row of ``scores [R, n]``; 0 if either is constant.

    Args:
        prompt: if given, the mean rank of each prompt is subtracted.
    """
    ranks = rankdata(np.vstack([rating, scores]), axis=1)
    if prompt is None:
        ranks = ranks - ranks.mean(axis=1, keepdims=True)
    else:
        _, group = np.unique(prompt, return_inverse=True)
        sums = np.stack([np.bincount(group, row) for row in ranks])
        ranks = ranks - (sums / np.bincount(group))[:, group]
    norms = np.sqrt((ranks**2).sum(axis=1))
    products = ranks[1:] @ ranks[0]
    scale = norms[1:] * norms[0]
    # ranks that are almost equal count as equal: their centered norms are rounding errors
    found: Floats = np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-9 * len(rating))
    return found


def shares(correlation: Floats) -> Floats:
    """Return weights ``[…, R]`` of mean 1 in proportion to the correlations; negative ones count as 0."""
    positive = np.maximum(correlation, 0)
    found: Floats = positive / positive.mean(axis=-1, keepdims=True)
    return found


def resampled(
    prompt: NDArray[np.int64], draws: int, generator: np.random.Generator
) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Draw prompts with replacement; return the images of each draw, and the drawn prompt that each belongs to."""
    names, group = np.unique(prompt, return_inverse=True)
    members = [np.flatnonzero(group == index) for index in range(len(names))]
    found = []
    for _ in range(draws):
        chosen = [members[index] for index in generator.integers(len(names), size=len(names))]
        copies = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        found.append((np.concatenate(chosen), copies))
    return found


def _doubts(names: Sequence[str], estimate: Floats, samples: Floats, count: int, prompts: int) -> list[str]:
    doubts = []
    if count < FEW_RATINGS or prompts < FEW_PROMPTS:
        doubts.append(f"only {count} ratings of {prompts} prompts (expected {FEW_RATINGS} of {FEW_PROMPTS} or more)")
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    unclear = [name for name, a, b in zip(names, low, high, strict=True) if a <= 0 <= b]
    if unclear:
        doubts.append(f"no clear correlation of {', '.join(unclear)}")
    against = [name for name, value in zip(names, estimate, strict=True) if value <= 0]
    if against:
        doubts.append(f"{', '.join(against)} weighs 0 because its correlation is not positive")
    return doubts


def warn_of(category: str, found: Calibration | None, rewards: Sequence[str]) -> None:
    """Warn if a category's weights are missing or unreliable."""
    if found is None:
        warnings.warn(
            f"{category}: no weights; its ratings are too few, all equal, or correlate with none of "
            f"{', '.join(rewards)}",
            stacklevel=2,
        )
        return
    for doubt in found.doubts:
        warnings.warn(f"{category}: {doubt}", stacklevel=2)
