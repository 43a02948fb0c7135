"""Resampling schemes are unbiased, respect zeros, and have the properties their names promise."""

from __future__ import annotations

import numpy as np
import pytest

from steer_fk.resampling import (
    SCHEMES,
    effective_sample_size,
    keep_survivors_in_place,
    log_mean_exp,
    normalize,
    residual,
    systematic,
    without_copies,
)

TARGETS = {
    "even": np.full(8, 1 / 8),
    "asymmetric": np.array([0.5, 0.2, 0.15, 0.1, 0.03, 0.02, 0.0, 0.0]),
    "zeros first": np.array([0.0, 0.0, 0.6, 0.0, 0.3, 0.1, 0.0, 0.0]),
    "degenerate": np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
}
schemes = pytest.mark.parametrize("scheme", sorted(SCHEMES))


def copies(scheme: str, weights: np.ndarray, count: int, draws: int) -> np.ndarray:
    """Return [draws, len(weights)]: how often each particle was chosen."""
    generator = np.random.default_rng(1)
    return np.stack(
        [np.bincount(SCHEMES[scheme](weights, count, generator), minlength=len(weights)) for _ in range(draws)]
    )


@schemes
@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("count", [8, 5])
def test_expected_copies_are_count_times_weight(scheme: str, target: str, count: int) -> None:
    weights = TARGETS[target]
    drawn = copies(scheme, weights, count, 1000)
    assert (drawn.sum(1) == count).all()
    error = np.maximum(drawn.std(0) / np.sqrt(len(drawn)), 1e-9)
    assert (np.abs(drawn.mean(0) - count * weights) / error).max() < 4.5
    assert drawn[:, weights == 0].sum() == 0


@schemes
def test_weights_whose_rounded_sum_is_below_one_never_choose_a_zero(scheme: str) -> None:
    weights = np.concatenate([np.full(1000, np.float32(1) / np.float32(1000.1)), np.zeros(24)]).astype(np.float64)
    assert weights.sum() < 1

    class AlmostOne(np.random.Generator):  # the largest uniform there is, every time
        def random(self, size=None):  # type: ignore[override]
            top = np.nextafter(1.0, 0.0)
            return top if size is None else np.full(size, top)

    chosen = SCHEMES[scheme](weights, 1024, AlmostOne(np.random.PCG64(0)))
    assert len(chosen) == 1024
    assert chosen.max() < 1000


def test_systematic_gives_floor_or_ceiling() -> None:
    weights = np.random.default_rng(0).dirichlet(np.full(30, 0.3))
    drawn = copies("systematic", weights, 30, 500)
    assert (drawn >= np.floor(30 * weights)).all()
    assert (drawn <= np.ceil(30 * weights)).all()


def test_residual_keeps_its_certain_copies() -> None:
    weights = np.random.default_rng(2).dirichlet(np.full(20, 0.4))
    assert (copies("residual", weights, 20, 500) >= np.floor(20 * weights)).all()
    thirds = residual(np.full(3, 1 / 3), 3, np.random.default_rng(0))
    assert thirds.tolist() == [0, 1, 2]  # 3 · (1/3) is a certain copy, whatever its rounding


def test_variance_falls_from_multinomial_to_systematic() -> None:
    weights = np.random.default_rng(3).dirichlet(np.full(16, 1.0))
    spread = {name: copies(name, weights, 16, 1000).var(0).sum() for name in SCHEMES}
    assert spread["systematic"] < spread["multinomial"] / 2
    assert spread["stratified"] < spread["multinomial"]
    assert spread["residual"] < spread["multinomial"]


@schemes
def test_the_caller_s_weights_are_left_alone(scheme: str) -> None:
    weights = TARGETS["asymmetric"].copy()
    SCHEMES[scheme](weights, 8, np.random.default_rng(0))
    assert (weights == TARGETS["asymmetric"]).all()


def test_normalize_takes_any_size_and_refuses_what_is_no_weight() -> None:
    assert normalize(np.array([1e6, 1e6 + np.log(3)])) == pytest.approx([0.25, 0.75])
    assert normalize(np.array([-1e6, -np.inf])).tolist() == [1.0, 0.0]
    for bad in ([np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]):
        with pytest.raises(ValueError, match="finite"):
            normalize(np.array(bad))


def test_effective_sample_size_and_log_mean_exp() -> None:
    assert effective_sample_size(np.full(7, -900.0)) == pytest.approx(7)
    assert effective_sample_size(np.array([0.0, -np.inf, -np.inf])) == 1
    assert effective_sample_size(np.log([0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375)
    assert log_mean_exp(np.array([2000.0, 2000.0 + np.log(3)])) == pytest.approx(2000 + np.log(2))


@pytest.mark.parametrize("count", [8, 5])
def test_survivors_stay_in_their_rows(count) -> None:
    drawn = systematic(TARGETS["asymmetric"], count, np.random.default_rng(5))
    rows, placed = keep_survivors_in_place(drawn, 8)
    assert sorted(placed) == sorted(drawn)
    assert len(set(rows.tolist())) == count
    assert rows.tolist() == sorted(rows)
    for survivor in set(drawn.tolist()):
        assert placed[rows.tolist().index(survivor)] == survivor


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_draws_without_copies_keep_every_expected_weight(name) -> None:
    weights = TARGETS[name]
    generator = np.random.default_rng(3)
    for count in range(1, len(weights) + 1):
        total = np.zeros(len(weights))
        for _ in range(4000):
            chosen, probability = without_copies(weights, count, generator)
            assert len(set(chosen.tolist())) == count
            total[chosen] += weights[chosen] / probability
        assert total / 4000 == pytest.approx(weights, abs=0.03)


def test_the_heaviest_are_never_lost_without_copies() -> None:
    for seed in range(20):
        chosen, probability = without_copies(np.array([0.02, 0.6, 0.01, 0.36, 0.01]), 3, np.random.default_rng(seed))
        assert {1, 3} < set(chosen.tolist())
        assert sorted(probability)[1:] == [1, 1]
    chosen, _ = without_copies(np.array([1.0, 0.0, 0.0]), 2, np.random.default_rng(0))
    assert 0 in chosen
