"""FK on a chain of tokens against the tilted distribution, by enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from support.token_chain import SCORES, STEPS, Chain, exact, reward, tilted

from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum
from steer.sampling.hooks import make_run
from steer.sampling.state import State
from steer_fk.method import FK
from steer_fk.options import FKOptions
from steer_fk.potentials import pooled

LAM = 1.0
# sums of rewards outrun the target unless they begin late: their last factor must take back what they added
OPTIONS = {
    "diff": {"at": (0, 1, 2)},
    "max": {"at": (0, 1, 2), "reward_min": -1.0},
    "add": {"at": (1, 2)},
    "rt": {"at": (1, 2)},
}


def run(particles: int, replicates: int, *, prefix: str = "", fk: dict | None = None) -> State:
    prompts = [Prompt(prefix, id=f"{prefix}-{number}") for number in range(replicates)]
    made = make_run(
        Chain(), prompts, settings={"particles": particles, "chunk": particles * replicates, "steps": STEPS},
        methods=[] if fk is None else [FK(FKOptions(**{"lambda": LAM, **fk}))],
        reward=WeightedSum([("score", 1.0, reward)]),
    )  # fmt: skip
    return made.search()


def distance(state: State, target: dict[str, float]) -> np.ndarray:
    """Return the total variation between each prompt's weighted particles and a target, ``[J]``."""
    words = list(target)
    index = torch.tensor([words.index(text) for text in state.samples])
    found = []
    for job in range(len(state.jobs)):
        rows = state.rows_of(job)
        weights = torch.softmax(state.log_weight[rows], dim=0)
        mass = torch.zeros(len(words), dtype=torch.float64).index_add_(0, index[rows], weights)
        found.append(0.5 * np.abs(mass.numpy() - np.array([target[word] for word in words])).sum())
    return np.array(found)


@pytest.mark.parametrize("prefix", ["", "b"])
def test_the_sampler_draws_from_the_chain_that_is_enumerated(prefix: str) -> None:
    law = exact(prefix)
    assert sum(law.values()) == pytest.approx(1)
    samples = list(run(4096, 1, prefix=prefix).samples)
    assert all(text.startswith(prefix) for text in samples)
    assert chisquare([samples.count(word) for word in law], [4096 * mass for mass in law.values()]).pvalue > 0.01


@pytest.mark.slow  # populations of hundreds
@pytest.mark.parametrize("prefix", ["", "b"])
@pytest.mark.parametrize("potential", list(OPTIONS))
def test_fk_tends_to_the_tilted_distribution_as_the_root_of_particles(potential: str, prefix: str) -> None:
    target, log_z = tilted(LAM, prefix)
    plain = 0.5 * sum(abs(target[word] - mass) for word, mass in exact(prefix).items())
    options = {"potential": potential, "draws": 2, **OPTIONS[potential]}
    few = distance(run(32, 16, prefix=prefix, fk=options), target).mean()
    state = run(512, 4, prefix=prefix, fk=options)
    many = distance(state, target).mean()
    # 16 times the particles: a quarter of the distance, with room for the error of two means
    assert 0.25 / 1.6 < many / few < 0.25 * 1.6
    assert many < 0.75 * plain
    estimates = [torch.logsumexp(state.log_weight[state.rows_of(job)], 0) - np.log(512) for job in range(4)]
    assert np.mean(estimates) == pytest.approx(log_z, abs=0.06)


def test_draws_of_x0_are_those_of_their_slot_whatever_else_is_drawn() -> None:
    made = [
        make_run(Chain(), [Prompt("", id=name) for name in names], settings={"particles": 3, "chunk": 64}, run_seed=5)
        for names in (["one"], ["two", "one"])
    ]
    draws = []
    for each in made:
        state = each.begin()
        state.predict()
        draws.append(state.x0_draws(4)[state.rows_of(len(each.jobs) - 1)])
    assert torch.equal(draws[0], draws[1])
    assert draws[0].shape == (3, 4, 3) and len(torch.unique(draws[0].flatten(0, 1), dim=0)) > 3


def test_rewards_are_pooled_as_the_paper_does_and_as_the_tilt_asks() -> None:
    rewards = torch.tensor([[0.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    assert torch.allclose(pooled(rewards, 1.0), torch.log(torch.exp(rewards).mean(dim=1)))
    assert torch.allclose(torch.exp(5 * pooled(rewards, 5.0)), torch.exp(5 * rewards).mean(dim=1))
    assert torch.allclose(pooled(rewards, 0.0), rewards.mean(dim=1))


def test_the_best_words_are_found_more_often() -> None:
    best = max(SCORES, key=SCORES.__getitem__)
    target, _ = tilted(LAM)
    assert target[best] > 2 * exact()[best]
