"""Bootstrap intervals cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from steer.statistics import bootstrap_mean, ratio, share, win_rate

WORLDS = {
    "normal": (lambda g, n: g.normal(0.3, 1, n), 0.3),
    "passed or not": (lambda g, n: (g.random(n) < 0.3) - 0.0, 0.3),
    "means of four, mostly near 1": (lambda g, n: g.beta(4, 0.8, (n, 4)).mean(axis=1), 4 / 4.8),
    "won, lost or drawn": (lambda g, n: (g.random(n) < 0.35) - (g.random(n) < 0.2) * 1.0, 0.15),
}


@pytest.mark.parametrize(
    ("world", "prompts"),
    [("normal", 10), ("normal", 200), ("passed or not", 200), ("means of four, mostly near 1", 24),
     ("means of four, mostly near 1", 100), ("won, lost or drawn", 60), ("won, lost or drawn", 200)],
)  # fmt: skip
def test_intervals_cover_the_truth_in_93_to_97_of_100(world, prompts) -> None:
    draw, truth = WORLDS[world]
    generator = np.random.default_rng(2)
    hits = 0
    for repeat in range(800):
        interval = bootstrap_mean(draw(generator, prompts), draws=300, seed=repeat)
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / 800 <= 0.97


def test_shares_cover_too_where_nearly_all_succeed() -> None:
    generator = np.random.default_rng(0)
    found = [
        [share((generator.random(count) < rate) * 1.0) for _ in range(1000)]
        for count, rate in ((12, 0.8), (24, 0.9), (240, 0.95))
    ]
    for rate, intervals in zip((0.8, 0.9, 0.95), found, strict=True):
        assert 0.93 <= np.mean([i.low <= rate <= i.high for i in intervals]) <= 0.98
    assert share([1.0] * 8).low < 0.8  # eight of eight is no certainty
    with pytest.raises(ValueError, match="zeros and ones"):
        share([0.0, 1.0, 0.5, 1.0, 0.0])


def test_paired_differences_are_narrower_than_two_intervals_and_draws_are_half_a_win() -> None:
    generator = np.random.default_rng(3)
    hard = generator.normal(0, 1, 60)
    first, second = hard + 0.2 + 0.1 * generator.normal(0, 1, 60), hard
    assert bootstrap_mean(first - second).clear_of_zero
    assert bootstrap_mean(first).low < bootstrap_mean(second).high
    assert win_rate([1, 1, 1, 0, 2, 2], [0, 1, 1, 1, 1, 1]).estimate == pytest.approx((1 + 0.5 + 0.5 + 0 + 1 + 1) / 6)


def test_ratios_cover_and_are_none_over_nothing() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for repeat in range(300):
        hard = generator.random(150)
        first, second = (hard < 0.3) * (generator.random(150) < 0.5) * 1.0, (hard < 0.3) * 1.0
        found = ratio(first, second, draws=300, seed=repeat)
        hits += found.low <= 0.5 <= found.high
    assert 0.91 <= hits / 300 <= 0.98
    assert ratio([0.0] * 6, [0.0] * 6) is None
    assert ratio([1.0] * 6, [0.0] * 5 + [1.0]).high == np.inf


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
