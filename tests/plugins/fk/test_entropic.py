"""Entropic annealing and look-ahead of FK, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from support.linear_gaussian import LinearGaussian, OneStream, posterior_mean, vp

from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum
from steer.sampling.hooks import make_run
from steer.sampling.lookahead import rollout
from steer_fk.method import FK
from steer_fk.options import FKOptions
from steer_fk.resampling import annealing_exponent, normalized_entropy

from .test_truth import errors_in_se, sample


def test_the_exponent_is_the_one_that_leaves_the_entropy_asked_for() -> None:
    # two weights, odds e^d: w^γ has the entropy of a coin with odds e^{γd}
    coin = 1 / (1 + math.exp(-1))
    entropy = -(coin * math.log(coin) + (1 - coin) * math.log(1 - coin)) / math.log(2)
    for d in (1.5, 4.0, 700.0):
        assert annealing_exponent(np.array([0.0, -d]), entropy) * d == pytest.approx(1, rel=1e-9)
    assert annealing_exponent(np.array([0.0, -0.5]), entropy) == 1.0  # more diverse than asked
    assert annealing_exponent(np.array([3.0, 3.0, 3.0]), 0.999) == 1.0
    assert normalized_entropy(np.zeros(7)) == pytest.approx(1)


@pytest.mark.slow  # populations of a thousand
@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
def test_annealed_populations_keep_moments_and_log_z(scheme, monkeypatch) -> None:
    monkeypatch.setattr("steer.sampling.run.Streams", OneStream)
    state = sample(1024, 16, scheme=scheme, min_entropy=0.97)
    events = [event for event in state.events if event.kind == "fk"]
    assert any(any(event.data["resampled"]) for event in events)
    # tempered: resampling does not make weights equal
    assert errors_in_se(state) < 4.5


@pytest.mark.slow  # eight populations, each with its own streams
def test_annealing_keeps_more_ancestors() -> None:
    def ancestors(**options) -> float:
        state = sample(64, 8, **options)
        return float(np.mean([len(state.ancestors[state.rows_of(j)].unique()) for j in range(len(state.jobs))]))

    assert ancestors(min_entropy=0.98) > 1.2 * ancestors()


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_a_look_ahead_over_all_steps_is_the_flow_in_closed_form(name) -> None:
    cls = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}[name]
    options = {"clip_sample": False} if name == "ddim" else {}
    scheduler = cls(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **options)
    run = make_run(LinearGaussian(scheduler), [Prompt("a")], settings={"particles": 5, "steps": 8, "eta": 0.0})
    state = run.sample(until=3)
    state.predict()
    before, spent = state.x.clone(), run.cost.nfe
    ahead = rollout(state, 100)
    assert torch.equal(state.x, before)
    assert run.cost.nfe - spent == 4 * 5  # what is left of 8 after the one that was made
    assert torch.equal(rollout(state, 0), state.x0)
    assert torch.allclose(ahead, run.sample(state).x, atol=1e-5)

    if name == "ddim":  # and by the matrices alone, one look in between
        ddim = cls(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **options)
        ddim.set_timesteps(8)
        levels = [vp(float(ddim.alphas_cumprod[t])) for t in ddim.timesteps]
        run = make_run(LinearGaussian(scheduler), [Prompt("a")], settings={"particles": 5, "steps": 8, "eta": 0.0})
        state = run.sample(until=2)
        state.predict()
        (alpha, sigma), (there_alpha, there_sigma) = levels[2], levels[5]
        x = state.x.double().numpy()
        gain, offset = posterior_mean(levels[2])
        x0 = x @ gain.T + offset
        x = there_alpha * x0 + there_sigma / sigma * (x - alpha * x0)
        gain, offset = posterior_mean(levels[5])
        assert np.allclose(rollout(state, 1).numpy(), x @ gain.T + offset, atol=1e-4)


def test_fk_weighs_by_what_the_look_ahead_leads_to() -> None:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    seen: list[torch.Tensor] = []

    def reward(samples, prompts):
        seen.append(samples.clone())
        return samples[:, 0].double()

    options = FKOptions(lookahead=2, at=(3,), **{"lambda": 1.0})
    settings = {"particles": 6, "steps": 8, "eta": 1.0, "chunk": 6}
    run = make_run(LinearGaussian(scheduler), [Prompt("a")], settings=settings, methods=[FK(options)],
              reward=WeightedSum([("r", 1.0, reward)]))  # fmt: skip
    run.search()
    plain = make_run(LinearGaussian(scheduler), [Prompt("a")], settings=settings)
    state = plain.sample(until=3)
    state.predict()
    assert torch.allclose(seen[0], rollout(state, 2), atol=1e-6)
    assert run.cost.nfe == 6 * (8 + 2)
