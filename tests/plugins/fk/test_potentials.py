"""The strength that the potential ``adaptive`` chooses, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from steer_fk.potentials import STRONGEST, Lineage, log_potential, tempered_strength
from steer_fk.resampling import effective_sample_size


def fresh(count: int) -> Lineage:
    return Lineage(torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64))


def coin(winners: int, losers: int, lam: float) -> float:
    """ESS of weights e^λ, ``winners`` times, and 1, ``losers`` times."""
    return (winners * math.exp(lam) + losers) ** 2 / (winners * math.exp(2 * lam) + losers)


def test_the_strength_is_the_one_that_leaves_the_ess_asked_for() -> None:
    rewards = np.array([1.0, 0, 0, 0, 0])
    for lam in (0.3, 2.0, 5.0):
        share = coin(1, 4, lam) / 5
        assert tempered_strength(np.zeros(5), rewards, fresh(5), share) == pytest.approx(lam, rel=1e-9)
        # in other units it is another number, and weighs the same
        assert tempered_strength(np.full(5, 7.0), 100 * rewards - 3, fresh(5), share) == pytest.approx(lam / 100)


def test_it_tempers_on_from_the_step_before() -> None:
    """Particles drawn at strength 2 are weighed for the rest alone, whatever the units of this step's rewards."""
    first = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    _, past = log_potential("adaptive", torch.full((5,), 2.0, dtype=torch.float64), first, fresh(5))
    drawn = torch.tensor([0, 0, 0, 1, 2])
    past = Lineage(past.log_product[drawn], past.memory[drawn])
    share = coin(3, 2, 1.5) / 5
    assert tempered_strength(np.zeros(5), first[drawn].numpy(), past, share) == pytest.approx(3.5)
    assert tempered_strength(np.zeros(5), 10 * first[drawn].numpy(), past, share) == pytest.approx(0.35)


def test_if_no_strength_leaves_enough_it_leaves_most() -> None:
    """The particle that strength 4 was spent on has become the worst: any strength leaves less than none does."""
    past = Lineage(torch.tensor([4.0, 0, 0, 0], dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    reward = np.array([0.0, 1, 1, 1])
    assert effective_sample_size(-past.log_product.numpy()) == pytest.approx(3, abs=0.05)
    assert tempered_strength(np.zeros(4), reward, past, 0.9) == 0.0
    # and where they kept their order, it is undone
    assert tempered_strength(np.zeros(4), 1 - reward, past, 0.9999) == pytest.approx(4, abs=0.05)


def test_equal_rewards_and_equal_best_ones_have_a_strength_too() -> None:
    assert tempered_strength(np.zeros(3), np.full(3, 0.2), fresh(3), 0.5) == 0.0
    # the two best can never be fewer than two
    strength = tempered_strength(np.zeros(4), np.array([5.0, 5, 3, 3]), fresh(4), 0.3)
    assert strength == STRONGEST / 2
    assert effective_sample_size(np.array([5.0, 5, 3, 3]) * strength) == pytest.approx(2)
