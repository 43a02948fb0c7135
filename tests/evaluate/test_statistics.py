"""Bootstrap intervals cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from steer.evaluate.statistics import balance, bootstrap_mean, difference, ratio, share, win_rate

pytestmark = pytest.mark.slow  # how often intervals cover shows in a thousand of them

WORLDS = {
    "normal": (lambda g, n: g.normal(0.3, 1, n), 0.3),
    "passed or not": (lambda g, n: (g.random(n) < 0.3) - 0.0, 0.3),
    "means of four, mostly near 1": (lambda g, n: g.beta(4, 0.8, (n, 4)).mean(axis=1), 4 / 4.8),
    "won, lost or drawn": (lambda g, n: (g.random(n) < 0.35) - (g.random(n) < 0.2) * 1.0, 0.15),
}


@pytest.mark.parametrize(
    ("world", "prompts"),
    [("normal", 10), ("passed or not", 200), ("means of four, mostly near 1", 24), ("won, lost or drawn", 60)],
)
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
    with pytest.raises(ValueError, match="from 0 to 1"):
        share([0.0, 1.0, 1.5, 1.0, 0.0])


def test_paired_differences_are_narrower_than_two_intervals_and_draws_are_half_a_win() -> None:
    generator = np.random.default_rng(3)
    hard = generator.normal(0, 1, 60)
    first, second = hard + 0.2 + 0.1 * generator.normal(0, 1, 60), hard
    assert bootstrap_mean(first - second).low > 0
    assert bootstrap_mean(first).low < bootstrap_mean(second).high
    assert win_rate([1, 1, 1, 0, 2, 2], [0, 1, 1, 1, 1, 1]).estimate == pytest.approx((1 + 0.5 + 0.5 + 0 + 1 + 1) / 6)


def failures(generator, prompts: int, share: float, left: float, alike: float, replicates: int = 1):
    """Return the failures of two methods a prompt, the first's a known part of the second's, correlated by prompt."""
    hard = generator.normal(size=(prompts, 1)) * alike**0.5
    own = generator.normal(size=(2, prompts, replicates)) * (1 - alike) ** 0.5
    first, second = hard + own < norm.ppf([left * share, share])[:, None, None]
    return first.mean(axis=1), second.mean(axis=1)


@pytest.mark.parametrize(
    ("prompts", "share_", "left", "alike"),
    [(96, 0.1, 0.5, 0.5), (48, 0.2, 0.25, 0.0), (96, 0.2, 0.5, 0.9), (48, 0.4, 0.25, 0.5), (48, 0.3, 1.0, 0.9)],
)
def test_paired_shares_and_ratios_of_failures_cover(prompts, share_, left, alike) -> None:
    generator = np.random.default_rng(11)
    ratios, differences, many = [], [], 1200
    for _ in range(many):
        first, second = failures(generator, prompts, share_, left, alike)
        found = ratio(first, second)
        if found is not None:
            ratios.append(found.low <= left <= found.high)
        gain = difference(1 - first, 1 - second)
        differences.append(gain.low <= share_ - left * share_ <= gain.high)
    assert len(ratios) > 0.98 * many
    assert 0.93 <= np.mean(ratios) <= 0.97
    assert 0.93 <= np.mean(differences) <= 0.97


def test_ratios_of_replicates_cover_and_gain_by_them() -> None:
    generator = np.random.default_rng(12)
    hits, widths = [], []
    for _ in range(1000):
        first, second = failures(generator, 48, 0.4, 0.5, 0.2, replicates=3)
        found, one = ratio(first, second), ratio(first > 0.5, second > 0.5)
        hits.append(found.low <= 0.5 <= found.high)
        widths.append((found.high - found.low) / (one.high - one.low))
    assert 0.93 <= np.mean(hits) <= 0.97
    assert np.mean(widths) < 0.8


def test_score_intervals_of_a_published_example() -> None:
    # 21 children before and after a transplant (Bentur et al. 2009): 1 both, 1 only before, 7 only after; the limits
    # are those of Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33
    before, after = [1, 1, *[0] * 7, *[0] * 12], [1, 0, *[1] * 7, *[0] * 12]
    found = difference(before, after)
    assert (found.low, found.high) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))
    found = ratio(before, after)
    assert (found.low, found.high) == (pytest.approx(0.065, abs=5e-4), pytest.approx(0.907, abs=5e-4))


@pytest.mark.parametrize("seed", range(6))
def test_the_limits_are_where_the_likelihood_under_them_says(seed) -> None:
    generator = np.random.default_rng(seed)
    first, second = failures(generator, 60, 0.3, 0.6, 0.3)
    counts = np.array([(first * second).sum(), (first > second).sum(), (first < second).sum(), 0])
    counts[3] = 60 - counts.sum()

    def statistic(weights, value) -> float:  # of E[w·indicators] = value, at the likeliest shares that meet it
        def away(p):
            return weights @ np.append(p, 1 - sum(p)) - value

        best = minimize(
            lambda p: -(counts * np.log(np.append(p, max(1 - sum(p), 1e-12)))).sum(), [0.2] * 3, method="SLSQP",
            bounds=[(1e-9, 1)] * 3, constraints=[{"type": "eq", "fun": away}], options={"ftol": 1e-13, "maxiter": 500},
        ).x  # fmt: skip
        best = np.append(best, 1 - sum(best))
        return (weights @ counts - 60 * value) / np.sqrt(60 * (weights**2 @ best - value**2))

    found = ratio(first, second)
    for limit, level in ((found.low, 1.96), (found.high, -1.96)):
        assert statistic(np.array([1 - limit, 1, -limit, 0]), 0.0) == pytest.approx(level, abs=0.01)
    found = difference(first, second)
    for limit, level in ((found.low, 1.96), (found.high, -1.96)):
        assert statistic(np.array([0, 1, -1, 0]), limit) == pytest.approx(level, abs=0.01)


def test_nothing_is_certain_where_all_prompts_agree() -> None:
    all_won = difference([1.0] * 8, [0.0] * 8)
    assert (all_won.estimate, all_won.high) == (1.0, 1.0) and 0 < all_won.low < 0.9
    same = difference([1.0] * 8, [1.0] * 8)
    assert same.estimate == 0 and -0.5 < same.low < -0.1 and same.high == pytest.approx(-same.low)
    assert win_rate([2.0] * 8, [1.0] * 8).low < 0.8
    none_left = ratio([0.0] * 12, [1.0] * 6 + [0.0] * 6)
    assert (none_left.estimate, none_left.low) == (0, 0) and 0.3 < none_left.high < 0.8
    assert ratio([0.0] * 6, [0.0] * 6) is None
    more = ratio([1.0] * 6, [0.0] * 5 + [1.0])
    assert more.low > 1 and np.isfinite(more.high)
    assert ratio([0.5] * 8, [0.5] * 8).low < 0.9
    with pytest.raises(ValueError, match="from 0 to 1"):
        ratio([0.0, 1.0, 2.0, 1.0, 0.0], [1.0] * 5)
    with pytest.raises(ValueError, match="-1, 0 and 1"):
        balance([0.5] * 6)


@pytest.mark.parametrize(("prompts", "rates"), [(12, (4, 0.8)), (24, (2, 2)), (48, (8, 0.4))])
def test_shares_of_replicates_cover(prompts, rates) -> None:
    generator = np.random.default_rng(13)
    truth = rates[0] / sum(rates)
    hits = [
        (found := share(generator.binomial(4, generator.beta(*rates, prompts)) / 4)).low <= truth <= found.high
        for _ in range(1200)
    ]
    assert 0.92 <= np.mean(hits) <= 0.98


def test_win_rates_with_draws_cover() -> None:
    generator = np.random.default_rng(14)
    for prompts, won, lost in ((24, 0.3, 0.1), (48, 0.2, 0.05), (96, 0.1, 0.1)):
        hits = []
        for _ in range(1000):
            drawn = generator.random(prompts)
            found = win_rate((drawn < won) * 1.0, (drawn > 1 - lost) * 1.0)
            hits.append(found.low <= (1 + won - lost) / 2 <= found.high)
        assert 0.93 <= np.mean(hits) <= 0.97


def test_the_estimate_is_the_mean_and_a_constant_has_no_width() -> None:
    interval = bootstrap_mean([1.0, 2.0, 3.0, 4.0, 5.0])
    assert interval.estimate == 3.0
    assert interval.low < 3.0 < interval.high
    assert interval.low > 0
    flat = bootstrap_mean([0.0] * 10)
    assert (flat.low, flat.high) == (0.0, 0.0)
    assert flat.low == flat.high == 0


@pytest.mark.parametrize("values", [[], [1.0] * 4, [1.0, 2.0, 3.0, float("nan"), 5.0]])
def test_too_few_or_broken_values_are_refused(values) -> None:
    with pytest.raises(ValueError, match="at least 5 finite"):
        bootstrap_mean(values)
