"""Steering inside a stock pipeline's call gives what the sampler gives."""

from __future__ import annotations

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from support.families import flux, sd
from support.tiny import tiny_sd

import steer
from steer import SteerError
from steer.models.load import load_model
from steer.registry.plugins import manager

PROMPTS = ["a red circle", "a blue square"]
OPTIONS = {"fk": {"lambda": 50.0}}
STEPS = 5


def brightness(samples: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return samples.mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd()


def call(pipe, attachment, **keywords):
    with attachment as given:
        return pipe(num_inference_steps=STEPS, guidance_scale=5.0, output_type="pt", **given, **keywords).images


@pytest.mark.slow
@pytest.mark.parametrize("transitions", [None, 3])
def test_fk_in_a_stock_call_equals_fk_in_the_sampler(pipe, transitions) -> None:
    attachment = steer.attach(pipe, PROMPTS, 4, ["fk"], brightness, options=OPTIONS, seed=3, transitions=transitions)
    images = call(pipe, attachment)
    own = steer.Sampler(pipe).generate(
        PROMPTS,
        methods=["fk"],
        reward=brightness,
        options=OPTIONS,
        particles=4,
        seed=3,
        steps=STEPS,
        guidance_scale=5.0,
        transitions=transitions,
    )
    expected = torch.tensor(own.rewards).flatten()
    assert torch.allclose(brightness(images, []).double(), expected.double(), atol=1e-5)
    resampled = [event["ancestors"] for event in own.trace[0]["events"] if event["kind"] == "resample"]
    assert resampled == [e["ancestors"] for e in attachment.traces[0]["events"] if e["kind"] == "resample"]
    assert attachment.best == [int(row.argmax()) + 4 * i for i, row in enumerate(expected.view(2, 4))]


@pytest.mark.slow
def test_without_methods_the_call_is_the_stock_call(pipe) -> None:
    attachment = steer.attach(pipe, "a red circle", 2, seed=5)
    images = call(pipe, attachment, eta=1.0)
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    stock = pipe(
        ["a red circle"], num_images_per_prompt=2, generator=generators, num_inference_steps=STEPS, guidance_scale=5.0,
        eta=1.0, output_type="pt",
    ).images  # fmt: skip
    assert torch.equal(images, stock)


def test_the_scheduler_is_given_back_even_after_an_error(pipe) -> None:
    before = pipe.scheduler
    with pytest.raises(RuntimeError, match="mine"), steer.attach(pipe, "a red circle", 2):
        raise RuntimeError("mine")
    assert pipe.scheduler is before
    assert "step" not in vars(before)


@pytest.mark.slow
def test_a_call_that_failed_leaves_nothing_to_the_next(pipe) -> None:
    attachment = steer.attach(pipe, PROMPTS, 4, ["fk"], brightness, options=OPTIONS, seed=3)

    def fail(pipe, step, timestep, given):
        if step == 2:
            raise KeyboardInterrupt
        return given

    with pytest.raises(KeyboardInterrupt):
        call(pipe, attachment, callback_on_step_end=fail)
    again = call(pipe, attachment)
    fresh = call(pipe, steer.attach(pipe, PROMPTS, 4, ["fk"], brightness, options=OPTIONS, seed=3))
    assert torch.equal(again, fresh)


def test_a_scheduler_with_noise_of_its_own_needs_no_eta(pipe) -> None:
    parts = {**pipe.components, "scheduler": EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)}
    euler = type(pipe)(**parts, requires_safety_checker=False)
    euler.set_progress_bar_config(disable=True)
    attachment = steer.attach(euler, "a red circle", 4, ["fk"], brightness, options=OPTIONS, seed=3)
    images = call(euler, attachment)
    assert torch.allclose(attachment.state.rewards(), brightness(images, []).double(), atol=1e-5)


@pytest.mark.slow  # a mean over thirty-two images, twice
def test_steering_raises_the_reward_over_plain_samples(pipe) -> None:
    plain = steer.Sampler(pipe).generate(PROMPTS, particles=16, steps=STEPS, reward=brightness, eta=1.0, seed=11)
    attachment = steer.attach(
        pipe, PROMPTS, 16, ["fk"], brightness, options={"fk": {"lambda": 300.0, "potential": "diff"}}, seed=11
    )
    call(pipe, attachment)
    difference = attachment.state.rewards() - torch.tensor(plain.rewards).flatten()
    assert difference.mean() > 3 * difference.std() / len(difference) ** 0.5


def test_a_deterministic_sampler_is_refused_with_what_to_set(pipe) -> None:
    parts = {**pipe.components, "scheduler": DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)}
    dpm = type(pipe)(**parts, requires_safety_checker=False)
    with pytest.raises(SteerError, match="euler"):
        steer.attach(dpm, "a red circle", 4, ["fk"], brightness)


def with_euler(pipe):
    parts = {**pipe.components, "scheduler": EulerDiscreteScheduler.from_config(pipe.scheduler.config)}
    euler = type(pipe)(**parts, requires_safety_checker=False)
    euler.set_progress_bar_config(disable=True)
    return euler, None, {}


def with_latents_of_a_flow(pipe):
    return sd.tiny_sd3(), None, {}


def with_packed_latents(pipe):
    dev = flux.tiny_dev()
    backbone = load_model(dev, manager()).backbone

    def decode(x: torch.Tensor) -> torch.Tensor:
        return backbone.decode(dev._unpack_latents(x, 24, 16, dev.vae_scale_factor))

    return dev, decode, {"width": 16, "height": 24}


@pytest.mark.slow  # three families, each attached and sampled
@pytest.mark.parametrize("made", [with_euler, with_latents_of_a_flow, with_packed_latents])
def test_steps_without_eta_get_the_noise_that_fk_needs(pipe, made) -> None:
    other, decode, size = made(pipe)
    attachment = steer.attach(other, PROMPTS, 3, ["fk"], brightness, options=OPTIONS, seed=3, decode=decode)
    with attachment as given:
        images = other(num_inference_steps=4, guidance_scale=5.0, output_type="pt", **size, **given).images
    own = steer.Sampler(other).generate(
        PROMPTS, methods=["fk"], reward=brightness, options=OPTIONS, particles=3, seed=3, steps=4, guidance_scale=5.0,
        **size,
    )  # fmt: skip
    final = brightness(images, []).double()
    assert torch.allclose(attachment.state.rewards(), final, atol=1e-5)
    assert len(set(final.tolist())) == 6  # though copied on the way
    resampled = [e["ancestors"] for e in attachment.traces[0]["events"] if e["kind"] == "resample"]
    assert resampled
    if decode is None:  # packed latents get the same noise in another order
        assert torch.allclose(final, torch.tensor(own.rewards).flatten().double(), atol=1e-5)
        assert resampled == [e["ancestors"] for e in own.trace[0]["events"] if e["kind"] == "resample"]


class Predicts(steer.Method):
    name = "predicts"

    @steer.hookimpl
    def after_predict(self, state) -> None:
        state.x = state.x + 1
        state.predict()


class NeedsGradient(steer.Method):
    name = "gradient"

    @steer.hookimpl
    def after_predict(self, state) -> None:
        state.gradient()


@pytest.mark.parametrize("method", [Predicts, NeedsGradient])
def test_a_method_that_asks_for_predictions_of_its_own_is_refused(pipe, method) -> None:
    with pytest.raises(SteerError, match="of its own"):
        call(pipe, steer.attach(pipe, "a red circle", 2, [method], brightness))


class NeedsSteps(steer.Method):
    name = "hasty"

    @steer.hookimpl
    def configure(self, run) -> None:
        run.set("steps", 4, by="hasty")


def test_a_method_that_needs_what_the_call_decides_is_refused(pipe) -> None:
    with pytest.raises(SteerError, match="'hasty' needs steps=4, but the pipeline's call decides"):
        steer.attach(pipe, "a red circle", 2, [NeedsSteps])


class Searches(steer.Method):
    name = "searches"

    @steer.hookimpl
    def search(self, run, sample):
        return sample()


def test_a_method_that_owns_the_outer_loop_is_refused(pipe) -> None:
    with pytest.raises(SteerError, match="search"):
        steer.attach(pipe, "a red circle", 2, [Searches])


def test_another_number_of_latents_is_refused(pipe) -> None:
    attachment = steer.attach(pipe, "a red circle", 2, seed=1)
    with attachment, pytest.raises(SteerError, match="3 latents, expected 2"):
        pipe("a red circle", num_images_per_prompt=3, num_inference_steps=2)


@pytest.mark.parametrize(
    ("method", "options", "left"),
    [("prune", {}, 3), ("beam", {}, 2), ("fk", {"keep": 0.5, "at": "1,3"}, 2)],
)
def test_a_method_that_drops_particles_is_refused_before_the_call(pipe, method, options, left) -> None:
    arguments = {"methods": [method], "reward": brightness, "options": {method: options}}
    with pytest.raises(SteerError, match=f"{left} of 8 particles would be left at the end"):
        steer.attach(pipe, "a red circle", 8, **arguments)
