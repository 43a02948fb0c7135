"""Stochastic transitions on a flow of which everything is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from support.linear_gaussian import Level, LinearFlow, Moments, OneStream, chain, flow, marginal

from steer.processes.noise import slot_generator
from steer.prompts.prompt import Prompt
from steer.sampling.hooks import make_run
from steer.sampling.run import Run
from steer.sampling.state import State

SHIFT = 3.0
PARTICLES = 65_536
ETAS = [0.0, 0.5, 1.0]


@pytest.fixture
def one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.sampling.run.Streams", OneStream)


def levels(steps: int) -> list[Level]:
    """Return what flow-matching schedulers step through: equally spaced t, shifted (arXiv 2403.03206, eq. 23)."""
    times = np.linspace(1.0, 0.001 * SHIFT / (1 + (SHIFT - 1) * 0.001), steps)
    return [flow(float(SHIFT * t / (1 + (SHIFT - 1) * t))) for t in times]


def made(prompts: int = 1, **settings: Any) -> Run:
    backbone = LinearFlow(FlowMatchEulerDiscreteScheduler(shift=SHIFT))
    given = {"chunk": PARTICLES, "particles": PARTICLES, **settings}
    return make_run(backbone, [Prompt(f"a flow {i}", seed=100 + i) for i in range(prompts)], settings=given)


def errors(state: State, truth: Moments) -> float:
    """Return the largest deviation of the sample's moments, in standard errors."""
    (mean, covariance), x = truth, state.x.double().numpy()
    variances = covariance.diagonal()
    off = np.abs(x.mean(0) - mean) / np.sqrt(variances / len(x))
    spread = np.abs(np.cov(x.T) - covariance) / np.sqrt((np.outer(variances, variances) + covariance**2) / len(x))
    return float(max(off.max(), spread.max()))


def worst_on_the_way(run: Run, truths: list[Moments]) -> float:
    """Return the largest error over all levels that the sampler passes."""
    state, worst = None, 0.0
    for step, truth in enumerate(truths, start=1):
        state = run.sample(state, until=step)
        worst = max(worst, errors(state, truth))
    assert state is not None and state.done
    return worst


@pytest.mark.parametrize("eta", [None, *ETAS])
def test_the_sampler_is_the_chain_of_the_closed_form(eta, one_stream, record_testsuite_property) -> None:
    worst = worst_on_the_way(made(steps=8, eta=eta), chain(levels(8), eta or 0.0))
    record_testsuite_property(f"flow chain SE {eta}", round(worst, 2))
    assert worst < 4


def test_chains_of_other_stochasticity_would_show(one_stream) -> None:
    final = made(steps=8, eta=0.5).search()
    for wrong in (0.0, 1.0):
        assert errors(final, chain(levels(8), wrong)[-1]) > 5
    assert errors(final, marginal((1.0, 0.0))) > 5  # nor are 8 steps the limit


@pytest.mark.slow
@pytest.mark.parametrize("eta", ETAS)
def test_with_many_steps_every_marginal_is_the_flows(eta, one_stream, record_testsuite_property) -> None:
    distances = []
    for steps in (100, 200, 400):
        there = [*levels(steps)[1:], (1.0, 0.0)]
        pairs = zip(chain(levels(steps), eta), map(marginal, there), strict=True)
        distances.append(max(np.abs(ours[i] - theirs[i]).max() for ours, theirs in pairs for i in (0, 1)))
    record_testsuite_property(f"flow marginal bias {eta}", [round(float(distance), 4) for distance in distances])
    assert distances[0] / distances[1] == pytest.approx(2, abs=0.2)  # first order: it vanishes as 1/steps
    assert distances[1] / distances[2] == pytest.approx(2, abs=0.2)
    run, state = made(steps=100, eta=eta, particles=PARTICLES // 4), None
    for step in (25, 60, 85, 100):
        state = run.sample(state, until=step)
        mean, covariance = marginal((state.alpha, state.sigma))
        x = state.x.double().numpy()
        allowed = distances[0] + 4 * covariance.max() * np.sqrt(2 / len(x))
        assert np.abs(x.mean(0) - mean).max() < allowed
        assert np.abs(np.cov(x.T) - covariance).max() < allowed


@pytest.mark.parametrize(("settings", "part"), [
    ({"eta": 0.0}, False), ({}, False), ({"eta": 0.1}, True), ({"eta": 1.0}, True), ({"scheduler": "flow-lcm"}, True),
])  # fmt: skip
def test_copies_part_where_there_is_noise_and_only_there(settings, part) -> None:
    run = made(steps=6, particles=4, chunk=4, **settings)
    state = run.sample(until=3)
    assert state.process.stochastic is part
    state.copy_from(torch.tensor([2, 2, 2, 2]), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(state.x, state.x[:1].expand(4, -1))
    run.sample(state, until=4)
    assert bool(torch.pdist(state.x).min() > 0) is part
    run.sample(state)
    assert bool(torch.pdist(state.x).max() > 0) is part


def test_flow_lcm_is_its_closed_form(one_stream, record_testsuite_property) -> None:
    worst = worst_on_the_way(made(steps=8, scheduler="flow-lcm"), chain(levels(8), renoise=True))
    record_testsuite_property("flow-lcm chain SE", round(worst, 2))
    assert worst < 4


@pytest.mark.parametrize("settings", [{"scheduler": "flow-lcm"}, {"eta": 0.7}], ids=["flow-lcm", "eta"])
def test_a_particles_noise_comes_from_its_own_stream(settings) -> None:
    together = made(prompts=3, steps=5, particles=2, chunk=6, **settings).search()
    for row, (job, slot) in enumerate(zip(together.job.tolist(), together.slot.tolist(), strict=True)):
        stream = slot_generator(together.jobs[job].seed, slot)
        x = by_hand(stream, renoise="scheduler" in settings, eta=settings.get("eta", 0.0))
        assert torch.allclose(together.x[row], x, atol=1e-5)


def by_hand(stream: torch.Generator, *, renoise: bool, eta: float) -> torch.Tensor:
    """Integrate one particle, its noise drawn in order: first x, then each transition's."""
    flow_model = made().backbone
    x = torch.randn(1, 2, generator=stream)
    sigmas = [sigma for _, sigma in levels(5)]
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        velocity = flow_model.predict("base", x, torch.tensor(1000 * sigma), None)  # type: ignore[arg-type]
        x0, end = x - sigma * velocity, x + (1 - sigma) * velocity
        if renoise:
            x = (1 - after) * x0 + after * torch.randn(1, 2, generator=stream)
            continue
        sd = eta * after * (1 - ((1 - sigma) * after / ((1 - after) * sigma)) ** 2) ** 0.5
        x = (1 - after) * x0 + (after**2 - sd**2) ** 0.5 * end
        if sd > 0:
            x = x + sd * torch.randn(1, 2, generator=stream)
    return x[0]
