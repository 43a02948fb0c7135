"""Bootstrap intervals cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from steer.statistics import bootstrap_mean


@pytest.mark.parametrize("draw", [lambda g, n: g.normal(0.3, 1, n), lambda g, n: (g.random(n) < 0.3) - 0.0])
def test_intervals_cover_the_truth_in_93_to_97_of_100(draw) -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for repeat in range(1000):
        interval = bootstrap_mean(draw(generator, 200), draws=1000, seed=repeat)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.93 <= hits / 1000 <= 0.97


def test_the_estimate_is_the_mean_and_a_constant_has_no_width() -> None:
    interval = bootstrap_mean([1.0, 2.0, 3.0, 4.0, 5.0])
    assert interval.estimate == 3.0
    assert interval.low < 3.0 < interval.high
    assert interval.clear_of_zero
    flat = bootstrap_mean([0.0] * 10)
    assert (flat.low, flat.high) == (0.0, 0.0)
    assert not flat.clear_of_zero


@pytest.mark.parametrize("values", [[], [1.0] * 4, [1.0, 2.0, 3.0, float("nan"), 5.0]])
def test_too_few_or_broken_values_are_refused(values) -> None:
    with pytest.raises(ValueError, match="at least 5 finite"):
        bootstrap_mean(values)
