"""Schedulers that evaluate the model twice a step."""

from __future__ import annotations

import diffusers
import pytest
import torch
from support.tiny import brightness

from steer import Sampler, SteerError
from steer.models.load import load_model
from steer.processes.gaussian import Gaussian
from steer.processes.noise import Streams
from steer.processes.schedulers import make_scheduler
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

STEPS = 5
NAMES = ["heun", "heun-karras", "dpm2", "dpm2-karras", "dpm2-a", "dpm2-a-karras", "flow-heun"]


def process(name: str) -> Gaussian:
    flow = name.startswith("flow")
    base = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0) if flow else diffusers.DDIMScheduler(clip_sample=False)
    scheduler = make_scheduler(name, base)
    scheduler.set_timesteps(STEPS)
    return Gaussian(scheduler)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_level_and_estimate_are_right_at_every_evaluation(name: str) -> None:
    torch.manual_seed(0)
    one, data = process(name), torch.randn(2, 3, 4, 4)
    streams = Streams.seeded([1, 2], [0, 0])
    noise = torch.randn_like(data)
    alpha, sigma = one.level
    x, whole = alpha * data + sigma * noise, []
    while not one.done:
        whole.append(one.whole)
        one.model_input(x)
        if one.whole:  # one data point: its ODE is a straight line, and the noise on it the same at the trial point
            alpha, sigma = one.level
            noise = (x - alpha * data) / sigma
        prediction = noise - data if name == "flow-heun" else noise
        assert torch.allclose(one.estimate(x, prediction), data, atol=2e-4 * sigma + 1e-4)
        x = one.step(x, prediction, streams)
    assert whole == [True, *[False, True] * (STEPS - 1)]
    assert one.whole and torch.allclose(x, data, atol=1e-4)
    assert one.index == one.length == 2 * STEPS - 1


@pytest.mark.slow  # evaluates the model twice a step
@pytest.mark.parametrize("at", [2, 3])  # where a step begins, and within one
@pytest.mark.parametrize("name", ["heun", "dpm2"])
def test_a_copy_goes_on_as_its_parent_would(tiny_pipe, name: str, at: int) -> None:
    settings = {"steps": STEPS, "particles": 3, "chunk": 3, "scheduler": name, "guidance_scale": 1.0}
    run = make_run(load_model(tiny_pipe, manager()).backbone, [Prompt("a red circle", seed=1)], settings=settings)
    expected = run.sample().x
    state = run.sample(until=at)
    rows = torch.tensor([2, 2, 0])
    state.predict()
    state.copy_from(rows, torch.zeros(3))
    state.advance()
    assert torch.equal(run.sample(state).x, expected[rows])


@pytest.mark.slow  # evaluates the model twice a step
def test_fk_resamples_where_a_step_begins(tiny_pipe) -> None:
    result = Sampler(tiny_pipe).generate(
        ["a red circle"], methods=["fk"], reward=brightness, options={"fk": {"at": [2, 5]}}, particles=3, steps=STEPS,
        scheduler="dpm2-a", seed=1,
    )  # fmt: skip
    events = result.items[0].trace["events"]
    assert [event["step"] for event in events if event["kind"] == "fk"] == [2, 6, 2 * STEPS - 1]


def test_eta_is_refused_and_so_is_a_shift_by_size() -> None:
    scheduler = make_scheduler("heun", diffusers.DDIMScheduler())
    with pytest.raises(SteerError, match=r"eta=0\.5 is not possible with HeunDiscreteScheduler"):
        Gaussian(scheduler, eta=0.5)
    shifting = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(SteerError, match="cannot shift noise levels by the image's size"):
        make_scheduler("flow-heun", shifting)
