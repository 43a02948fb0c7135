"""Resampling schemes: normalized weights in, ancestor indices out.

All are unbiased: the expected number of copies of particle i is n·W_i. They differ in the variance of that
number (Douc, Cappé & Moulines 2005, *Comparison of resampling schemes for particle filtering*).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scheme = Callable[[Floats, int, np.random.Generator], Ints]


def multinomial(weights: Floats, count: int, generator: np.random.Generator) -> Ints:
    """Draw every ancestor independently."""
    return _invert(weights, np.sort(generator.random(count)))


def stratified(weights: Floats, count: int, generator: np.random.Generator) -> Ints:
    """Draw one uniform number in each of ``count`` equal strata."""
    return _invert(weights, (np.arange(count) + generator.random(count)) / count)


def systematic(weights: Floats, count: int, generator: np.random.Generator) -> Ints:
    """Draw one uniform number for all strata; particle i gets ⌊n·W_i⌋ or ⌈n·W_i⌉ copies."""
    return _invert(weights, (np.arange(count) + generator.random()) / count)


def residual(weights: Floats, count: int, generator: np.random.Generator) -> Ints:
    """Keep ⌊n·W_i⌋ copies for certain; draw the others from the remainders."""
    expected = count * weights
    # 3 · (1/3) may round to just below 1; without the margin a certain copy would be drawn at random
    certain = np.floor(expected + 1e-9 * np.maximum(expected, 1.0)).astype(np.int64)
    rest = count - int(certain.sum())
    ancestors = np.repeat(np.arange(len(weights)), certain)
    if rest:
        left = np.maximum(expected - certain, 0.0)
        ancestors = np.concatenate([ancestors, multinomial(left / left.sum(), rest, generator)])
    return np.sort(ancestors)


def without_copies(weights: Floats, count: int, generator: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw ``count`` different particles: those of weight above a threshold c for certain, others with W_i/c.

    A particle that is divided by its probability has the same expected weight, so the estimate of Z stays unbiased; of
    all draws without copies this changes the weights least (Fearnhead & Clifford 2003, *On-line inference for hidden
    Markov models via particle filters*).

    Args:
        count: 1 up to the number of particles.

    Returns:
        The particles, ascending, and the probability of each to be among them; ``[count]`` both.
    """
    weights = np.maximum(weights, np.finfo(np.float64).tiny)
    order = np.argsort(-weights, kind="stable")
    left = np.cumsum(weights[order][::-1])[::-1]  # the sum of each weight and all below it
    certain = 0
    while certain < count and weights[order[certain]] * (count - certain) >= left[certain] * (1 - 1e-9):
        certain += 1
    chosen, rest = order[:certain], order[certain:]
    probability = np.ones(len(weights))
    if certain < count:
        probability[rest] = weights[rest] / left[certain] * (count - certain)
        chosen = np.concatenate([chosen, rest[systematic(weights[rest], count - certain, generator)]])
    chosen = np.sort(chosen)
    return chosen, probability[chosen]


SCHEMES: dict[str, Scheme] = {
    "multinomial": multinomial,
    "stratified": stratified,
    "systematic": systematic,
    "residual": residual,
}
"""Schemes by name."""


def normalize(log_weights: Floats) -> Floats:
    """Return weights that sum to one from log-weights of any size.

    Raises:
        ValueError: if a log-weight is NaN or +inf, or all are −inf.
    """
    top = log_weights.max()
    if not np.isfinite(top) or np.isnan(log_weights).any():
        raise ValueError("log-weights must be finite or -inf, and not all -inf")
    weights: Floats = np.exp(log_weights - top)
    weights /= weights.sum()
    return weights


def effective_sample_size(log_weights: Floats) -> float:
    """Return ESS = 1/ΣW², in 1..n (Kong, Liu & Wong 1994)."""
    weights = normalize(log_weights)
    return float(1.0 / np.square(weights).sum())


def normalized_entropy(log_weights: Floats) -> float:
    """Return the entropy of the normalized weights divided by its maximum, log n; in 0..1."""
    weights = normalize(log_weights)
    positive = weights[weights > 0]
    return float(-(positive * np.log(positive)).sum() / np.log(len(log_weights)))


def annealing_exponent(log_weights: Floats, least: float) -> float:
    """Return the largest γ in [0, 1] for which the weights to the power of γ have a normalized entropy of ``least``.

    Entropic annealing (arXiv 2510.05825): intermediate rewards can be overconfident, so the resampling distribution is
    flattened until enough of the population's diversity survives. The rest stays in the weights.

    Args:
        log_weights: ``[n]``, n at least 2, not all −inf.
        least: entropy divided by log n, in [0, 1).
    """
    if normalized_entropy(log_weights) >= least:
        return 1.0
    low, high = 0.0, 1.0  # the entropy falls as γ grows
    for _ in range(60):
        middle = (low + high) / 2
        if normalized_entropy(middle * log_weights) >= least:
            low = middle
        else:
            high = middle
    return low


def log_mean_exp(log_weights: Floats) -> float:
    """Return log(mean(exp(log_weights)))."""
    top = log_weights.max()
    return float(top + np.log(np.mean(np.exp(log_weights - top))))


def keep_survivors_in_place(ancestors: Ints, size: int) -> tuple[Ints, Ints]:
    """Give every survivor its own row, and further copies the first rows of those that died.

    The multiset is unchanged. Genealogies are easier to read, and untouched rows keep their noise streams.

    Args:
        ancestors: ``[m]``, at most ``size``.
        size: number of rows before.

    Returns:
        The rows that remain, ascending, and whose content each of them gets; ``[m]`` both.
    """
    copies = np.bincount(ancestors, minlength=size)
    survivors = np.flatnonzero(copies)
    vacant = np.flatnonzero(copies == 0)[: len(ancestors) - len(survivors)]
    content = np.arange(size)
    content[vacant] = np.repeat(survivors, copies[survivors] - 1)
    rows = np.sort(np.concatenate([survivors, vacant]))
    return rows, content[rows]


def _invert(weights: Floats, points: Floats) -> Ints:
    """Return, for each sorted point in [0, 1), the index whose interval of the cumulative weights holds it.

    The points are scaled by the last cumulative weight. Rounding could leave it below a point, and clipping the index
    could then choose a particle of weight zero.
    """
    cumulative = np.cumsum(weights)
    indices = np.searchsorted(cumulative, points * cumulative[-1], side="right")
    last = int(np.flatnonzero(weights > 0)[-1])
    return np.asarray(np.minimum(indices, last), dtype=np.int64)
