"""The score of best-of-n, predicted from existing independent samples.

Of N samples with rewards r and verdicts v, best-of-n for n ≤ N needs no sampling: its mean over all subsets of n is
a U-statistic that the order of the rewards gives in closed form (as pass@k is estimated, arXiv 2107.03374, eq. 1).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def rank_chances(count: int, n: int) -> Floats:
    """Return the chance ``[count]`` of each rank, lowest first, to be the best of n.

    For n ≤ count, n are drawn without replacement: C(i−1, n−1) / C(count, n) for rank i, without bias. For larger n,
    they are drawn with replacement: (i/count)ⁿ − ((i−1)/count)ⁿ. This leaves out rewards above the best one seen, so it
    is a lower bound of the reward.

    Raises:
        ValueError: if there are no samples or n is less than one.
    """
    if count < 1 or n < 1:
        raise ValueError(f"expected at least one sample and n of at least 1, got {count} and {n}")
    ranks = np.arange(1, count + 1, dtype=np.float64)
    if n > count:
        above: Floats = (ranks / count) ** n - ((ranks - 1) / count) ** n
        return above
    whole = math.comb(count, n)  # exact integers: no factorial overflows
    return np.array([math.comb(rank - 1, n - 1) / whole for rank in range(1, count + 1)])


def best_of_n(rewards: Sequence[float], verdicts: Sequence[float], n: int) -> float:
    """Return the expected verdict on the sample of highest reward among n.

    Args:
        rewards: one per sample, to choose by; samples of equal reward are equally likely to be chosen.
        verdicts: the judge's, one per sample; give the rewards again for the expected reward itself.
        n: samples to choose among; above ``len(rewards)`` this extrapolates (:func:`rank_chances`).
    """
    reward, verdict = np.asarray(rewards, dtype=np.float64), np.asarray(verdicts, dtype=np.float64)
    order = np.argsort(reward, kind="stable")
    _, first, sizes = np.unique(reward[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(verdict[order], first)
    chances = np.add.reduceat(rank_chances(len(reward), n), first)
    return float((chances * sums / sizes).sum())


def false_positives(rewards: Sequence[float], passed: Sequence[bool]) -> float | None:
    """Return the share that the judge rejects among the samples that the reward approves.

    The reward approves its highest scores, as many as the judge passes, so no common scale is needed; equal rewards at
    the limit count in part. A reward as good as the judge gives 0, an uninformative one 1 minus the judge's rate.

    Returns:
        A share, or ``None`` if the judge passes none or all.
    """
    reward, right = np.asarray(rewards, dtype=np.float64), np.asarray(passed, dtype=np.float64)
    wanted = int(right.sum())
    if wanted in (0, len(right)):
        return None
    limit = np.sort(reward)[-wanted]
    sure, tied = reward > limit, reward == limit
    part = (wanted - int(sure.sum())) / int(tied.sum())
    return 1 - float(right[sure].sum() + part * right[tied].sum()) / wanted
