"""When one more sample is not worth its cost: a sample budget that depends on the prompt's difficulty."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

FEWEST = 4
"""Samples needed before a prompt's rewards are judged."""


def expected_gain(rewards: Sequence[float]) -> float:
    """Return the gain in the best reward that is expected from one more independent sample.

    This is the expected improvement (Jones, Schonlau & Welch 1998, eq. 15) under the predictive distribution of a
    normal population after n samples: Student's t with n − 1 degrees of freedom about the mean, with scale
    s·sqrt(1 + 1/n). An easy prompt, whose samples are all alike, stops early. So does a hard prompt whose best sample
    is far above the rest. A prompt whose samples still vary continues.

    Args:
        rewards: at least ``FEWEST``.

    Raises:
        ValueError: for fewer.
    """
    values = np.asarray(rewards, dtype=np.float64)
    count = len(values)
    if count < FEWEST:
        raise ValueError(f"expected at least {FEWEST} rewards, got {count}")
    scale = float(values.std(ddof=1)) * math.sqrt(1 + 1 / count)
    if scale == 0:
        return 0.0
    freedom = count - 1
    z = float(values.max() - values.mean()) / scale
    # E[(T − z)+] of Student's t: pdf(z)·(ν + z²)/(ν − 1) − z·P(T > z)
    above = float(stats.t.pdf(z, freedom) * (freedom + z * z) / (freedom - 1) - z * stats.t.sf(z, freedom))
    return scale * above
