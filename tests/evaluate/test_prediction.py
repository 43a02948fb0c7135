"""Predictions of best-of-n against closed forms and against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from steer.evaluate.prediction import best_of_n, false_positives, rank_chances


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_it_is_the_mean_over_all_subsets_ties_included(n) -> None:
    rewards, verdicts = [0.3, 0.9, 0.3, 0.1, 0.9, 0.5], [1.0, 0.0, 0.0, 0.5, 1.0, 0.2]
    wanted = []
    for subset in combinations(range(6), n):
        top = max(rewards[i] for i in subset)
        wanted.append(np.mean([verdicts[i] for i in subset if rewards[i] == top]))
    assert best_of_n(rewards, verdicts, n) == pytest.approx(np.mean(wanted), abs=1e-12)


@pytest.mark.slow
def test_the_best_of_n_uniform_rewards_is_n_over_n_plus_1_on_average() -> None:
    generator = np.random.default_rng(0)
    pilots = generator.random((4000, 12))
    for n in (1, 3, 12):
        found = np.array([best_of_n(pilot, pilot, n) for pilot in pilots])
        assert found.mean() == pytest.approx(n / (n + 1), abs=4 * found.std() / 4000**0.5 + 1e-9)


def test_beyond_the_pilot_it_tends_to_the_best_seen_and_a_blind_reward_gains_nothing() -> None:
    rewards = [0.1, 0.4, 0.2, 0.8]
    assert best_of_n(rewards, rewards, 4) == 0.8 > best_of_n(rewards, rewards, 5)  # with replacement from here on
    assert best_of_n(rewards, rewards, 200) == pytest.approx(0.8)
    assert best_of_n([1.0] * 4, [0.0, 1.0, 1.0, 0.0], 64) == 0.5
    assert rank_chances(10, 3).sum() == rank_chances(10, 30).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one"):
        rank_chances(0, 1)


def test_false_positives_of_a_perfect_a_reversed_and_a_blind_reward() -> None:
    passed = [True, False, True, False, False]
    assert false_positives([0.9, 0.1, 0.8, 0.2, 0.3], passed) == 0
    assert false_positives([0.1, 0.9, 0.2, 0.8, 0.7], passed) == 1
    assert false_positives([0.5] * 5, passed) == pytest.approx(1 - 2 / 5)
    assert false_positives([0.5] * 2, [True, True]) is None
