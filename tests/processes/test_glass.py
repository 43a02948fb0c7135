"""Stochastic transitions from ODE steps, against the moments that they must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from support.linear_gaussian import (
    COVARIANCE,
    MEAN,
    Given,
    LinearFlow,
    LinearGaussian,
    affine_moments,
    chain,
    process,
    run_through,
)

from steer import SteerError
from steer.models.encoded_prompts import Conditioning
from steer.processes.glass import Glass
from steer.processes.noise import Streams
from steer.prompts.prompt import Prompt
from steer.sampling.hooks import make_run

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def ddim() -> DDIMScheduler:
    return DDIMScheduler(clip_sample=False, timestep_spacing="trailing", **BETAS)


MODELS = {
    "vp": lambda: LinearGaussian(ddim()),
    "flow": lambda: LinearFlow(FlowMatchEulerDiscreteScheduler(shift=3.0)),
}


def error(backbone: LinearGaussian, steps: int, transitions: int) -> float:
    mean, covariance = affine_moments(backbone, steps, transitions)
    return float(np.abs(mean - MEAN.numpy()).max() + np.abs(covariance - COVARIANCE.numpy()).max())


@pytest.mark.parametrize("transitions", [1, 2, 5])
@pytest.mark.parametrize("model", MODELS)
def test_the_error_of_the_moments_falls_with_the_evaluations(model: str, transitions: int) -> None:
    counts = (20, 40, 80, 160)
    errors = [error(MODELS[model](), count, transitions) for count in counts]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert errors[-1] < 0.04 and slope < -0.7, errors


@pytest.mark.parametrize("model", MODELS)
def test_fewer_transitions_leave_less_error_than_the_ancestral_sampler(model: str) -> None:
    backbone = MODELS[model]()
    ancestral = process(backbone, 20, None, eta=1.0)
    mean, covariance = chain([ancestral.at(index).level for index in range(20)])[-1]
    theirs = float(np.abs(mean - MEAN.numpy()).max() + np.abs(covariance - COVARIANCE.numpy()).max())
    assert error(backbone, 20, 1) < error(backbone, 20, 2) < 0.9 * theirs


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearGaussian(ddim()),
        lambda: LinearGaussian(EulerDiscreteScheduler(**BETAS)),
        lambda: LinearFlow(FlowMatchEulerDiscreteScheduler(shift=3.0)),
    ],
    ids=["ddim", "euler", "flow"],
)
def test_a_transition_for_each_evaluation_is_the_kernel_to_the_bit(make) -> None:
    backbone = make()
    runs = [process(backbone, 8, 8), process(backbone, 8, None, eta=1.0)]
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    x = [
        run_through(backbone, one, one.prior(noise), Streams.seeded([0] * 4, range(4)))
        for one in runs
        # the exact denoiser of the VE schedule is not at hand: any function of x and t will do
    ]
    assert torch.equal(*x)


def test_methods_act_between_transitions_and_may_reindex_within() -> None:
    backbone = MODELS["flow"]()
    noise, draws = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(1)), torch.ones(3, 6, 2).double()
    one = process(backbone, 9, 3)
    assert one.stochastic
    whole, x = [], noise[0].double()
    nothing = Conditioning({}, None, 1.0)
    order = torch.tensor([3, 3, 0, 5, 1, 2])
    other = process(backbone, 9, 3)
    theirs = noise[0].double()[order]
    streams, again = Given(draws), Given(draws)
    while not one.done:
        whole.append(one.whole)
        x = one.step(x, backbone.predict("base", x, one.timestep, nothing).double(), streams)
        theirs = other.step(theirs, backbone.predict("base", theirs, other.timestep, nothing).double(), again)
        if one.index == 5:
            one.select(order, 6)
            x = x[order]
    assert whole == [True, False, False] * 3 and one.whole
    torch.testing.assert_close(x, theirs)


def test_a_population_may_begin_within_the_schedule() -> None:
    backbone = MODELS["vp"]()
    one = process(backbone, 120, 3)
    one.skip_to(60)
    assert one.whole
    alpha, sigma = one.level
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(2)).double()
    data = torch.distributions.MultivariateNormal(MEAN, COVARIANCE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        x = alpha * data.sample((4000,)) + sigma * noise
        out = run_through(backbone, one, x, Given(torch.randn(2, 4000, 2).double()))
    assert (out.mean(0) - MEAN).abs().max() < 0.06
    assert (torch.cov(out.T) - COVARIANCE).abs().max() < 0.08


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transitions": 9}, "transitions=9 are more than the 8 evaluations"),
        ({"transitions": 2, "eta": 0.0}, "draw noise, and eta=0 allows none"),
        ({"transitions": 2, "scheduler": "dpm++"}, "DPMSolverMultistepScheduler, whose steps are not in closed form"),
        ({"transitions": 2, "scheduler": "heun"}, "HeunDiscreteScheduler, whose steps are not in closed form"),
    ],
)
def test_what_cannot_be_cut_is_refused(settings, said: str) -> None:
    with pytest.raises(SteerError, match=said):
        make_run(LinearGaussian(ddim()), [Prompt("a")], settings={"steps": 8, **settings}).process()


def test_eta_below_one_makes_less_noise() -> None:
    backbone = MODELS["flow"]()
    spreads = []
    for eta in (0.3, 1.0):
        one = process(backbone, 20, 4, eta)
        assert isinstance(one, Glass)
        start = torch.zeros(500, 2).double()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            spreads.append(run_through(backbone, one, start, Given(torch.randn(4, 500, 2).double()), 15).std())
    assert spreads[0] < spreads[1]
