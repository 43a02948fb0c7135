"""What best-of-n would come to, predicted from independent samples that are there already.

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

    For n ≤ count, among n drawn without replacement: C(i−1, n−1) / C(count, n) for rank i, without bias. Beyond, with
    replacement: (i/count)ⁿ − ((i−1)/count)ⁿ; that can't know of rewards above the best one seen, so it is a lower bound
    of the reward.

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
        rewards: one per sample, what is chosen by; samples of equal reward are equally likely to be chosen.
        verdicts: one per sample, of the judge; give the rewards again for the expected reward itself.
        n: how many are drawn; above the number of samples this extrapolates (:func:`rank_chances`).
    """
    reward, verdict = np.asarray(rewards, dtype=np.float64), np.asarray(verdicts, dtype=np.float64)
    order = np.argsort(reward, kind="stable")
    _, first, sizes = np.unique(reward[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(verdict[order], first)
    chances = np.add.reduceat(rank_chances(len(reward), n), first)
    return float((chances * sums / sizes).sum())


def false_positives(rewards: Sequence[float], passed: Sequence[bool]) -> float | None:
    """Return how often the reward approves of what the judge rejects, among what it approves of.

    The reward approves of as many samples as the judge passes, those that it scores highest, so that no scale has to be
    agreed on; equal rewards at the limit count in part. 0 is a reward as good as the judge, 1 minus the judge's rate
    one that knows nothing.

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
