"""FK inside a k-diffusion loop: what steer's own sampler gives at the same seed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from torch import Tensor

import steer
from steer import Method, Prompt, SteerError, hookimpl
from steer.plugin import WeightedSum, make_methods, manager
from steer_comfyui.population import Model, Population, Steps, prepared

TEXT, SEED, STEPS, PARTICLES = "a red circle", 3, 6, 4
OPTIONS = {"fk": {"lambda": 3000.0, "potential": "diff"}}
SHAPE = (4, 8, 8)


def brightness(samples: Tensor, prompts: list[str]) -> Tensor:
    return samples.mean(dim=(1, 2, 3))


def sample_euler_ancestral(model: Any, x: Tensor, sigmas: Tensor, noise_sampler: Any) -> Tensor:
    """Ancestral Euler steps with η = 1, as k-diffusion takes them (Karras et al. 2022, eq. of DDPM's variance)."""
    for sigma, following in pairwise(sigmas):
        denoised = model(x, sigma * x.new_ones(len(x)))
        up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        down = (following**2 - up**2) ** 0.5
        x = x + (x - denoised) / sigma * (down - sigma)
        if following > 0:
            x = x + up * noise_sampler(sigma, following)
    return x


def sample_second_order(model: Any, x: Tensor, sigmas: Tensor, noise_sampler: Any) -> Tensor:
    """Asks for a second estimate within each step but the last, and uses those of the step before."""
    old = None
    for sigma, following in pairwise(sigmas):
        denoised = model(x, sigma * x.new_ones(len(x)))
        between = (sigma + following) / 2
        x = denoised if old is None else denoised + 0.1 * (denoised - old)
        if following > 0:
            x = (x + model(x + between * denoised, between * x.new_ones(len(x)))) / 2
        x = x + following * noise_sampler(sigma, following)
        old = denoised
    return x


def scheduled() -> tuple[EulerAncestralDiscreteScheduler, Tensor]:
    scheduler = EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    return scheduler, scheduler.sigmas


def shrinking(x: Tensor, sigma: Tensor, **given: Any) -> Tensor:
    return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)


def through(sampler, denoise, methods, *, reward=brightness, x=None, decode=None, sigmas=None, **settings):
    """Take a population through a sampler; return its run and state."""
    sigmas = scheduled()[1] if sigmas is None else sigmas
    steps = Steps(sigmas.tolist(), flow=False, stochastic=True)
    model = Model(torch.nn.Identity(), torch.device("cpu"), steps, decode or (lambda x: x[:, :3].sigmoid()))
    scorer = WeightedSum([("reward", 1.0, reward)])
    run = prepared(model, Prompt(TEXT, seed=SEED), PARTICLES, STEPS, methods, scorer)
    population = Population(run, run.start, methods)
    noise = population.streams.normal(SHAPE, "cpu") * float(sigmas[0])
    normal = lambda sigma, following: population.streams.normal(SHAPE, "cpu")  # noqa: E731
    population.through(sampler, denoise, noise if x is None else x, sigmas, noise_sampler=normal)
    return run, population.state


def resampled(events: list[Any]) -> list[tuple[int, list[int]]]:
    return [(event.step, event.data["ancestors"]) for event in events if event.kind == "resample"]


@pytest.mark.slow
def test_fk_in_a_k_diffusion_loop_equals_fk_in_the_sampler(tiny_pipe) -> None:
    scheduler, sigmas = scheduled()
    own = steer.Sampler(tiny_pipe.__class__(**{**tiny_pipe.components, "scheduler": scheduler})).generate(
        TEXT, methods=["fk"], reward=brightness, options=OPTIONS, particles=PARTICLES, seed=SEED, steps=STEPS,
        guidance_scale=1.0,
    )  # fmt: skip
    text = tiny_pipe.encode_prompt(TEXT, "cpu", 1, False)[0].repeat(PARTICLES, 1, 1)
    times = dict(zip(sigmas.tolist(), scheduler.timesteps, strict=False))

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma[0]
        with torch.no_grad():
            eps = tiny_pipe.unet(x / (level**2 + 1) ** 0.5, times[float(level)], encoder_hidden_states=text).sample
        return x - level * eps

    def decode(x: Tensor) -> Tensor:
        return (tiny_pipe.vae.decode(x / tiny_pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    _, state = through(sample_euler_ancestral, denoise, make_methods(["fk"], OPTIONS, manager()), decode=decode)
    theirs = [(event["step"], event["ancestors"]) for event in own.trace[0]["events"] if event["kind"] == "resample"]
    assert resampled(state.events) == theirs
    assert any(ancestors != [0, 1, 2, 3] for _, ancestors in theirs)
    assert state.rewards().tolist() == pytest.approx(own.rewards[0], abs=1e-5)


class Shuffle(Method):
    """Copies row 0 over row 3 at one step."""

    name = "shuffle"

    @hookimpl
    def after_predict(self, state):
        if state.step == 2:
            state.copy_from(torch.tensor([0, 1, 2, 0]), state.log_weight)


def test_a_copy_takes_along_what_a_multistep_sampler_keeps() -> None:
    """Row 3 becomes a copy of row 0 at step 2; without noise from there on, the two stay equal."""
    state = through(silenced(sample_second_order), shrinking, [Shuffle()])[1]
    assert torch.equal(state.x[3], state.x[0])
    assert not torch.equal(state.x[1], state.x[0])
    assert state.ancestors.tolist() == [0, 1, 2, 0]


def silenced(sampler):
    """Return a sampler without noise, so that copies stay equal."""
    return lambda model, x, sigmas, noise_sampler: sampler(model, x, sigmas, lambda *_: torch.zeros_like(x))


class Watch(Method):
    """Notes the order of the hooks, and what they see."""

    name = "watch"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int, float]] = []

    def note(self, hook, state):
        self.seen.append((hook, state.step, float(state.x.sum())))

    @hookimpl
    def before_predict(self, state):
        self.note("before", state)

    @hookimpl
    def after_predict(self, state):
        self.note("after", state)

    @hookimpl
    def after_step(self, state):
        self.note("step", state)

    @hookimpl
    def finish(self, state):
        self.note("finish", state)


def test_hooks_come_in_the_order_of_steers_own_loop() -> None:
    method = Watch()
    run, state = through(sample_second_order, shrinking, [method])
    expected = [(name, step + (name == "step")) for step in range(STEPS) for name in ("before", "after", "step")]
    assert [(name, step) for name, step, _ in method.seen] == [*expected, ("finish", STEPS)]
    steps = {step: total for name, step, total in method.seen if name == "step"}
    before = {step: total for name, step, total in method.seen if name == "before"}
    assert all(steps[step] == before[step] for step in range(1, STEPS))
    assert steps[STEPS] == float(state.x.sum())
    assert run.cost.nfe == PARTICLES * (2 * STEPS - 1)


def test_a_loop_that_leaves_levels_out_cannot_be_steered() -> None:
    def half(model, x, sigmas, noise_sampler):
        return sample_euler_ancestral(model, x, sigmas[::2], noise_sampler)

    with pytest.raises(SteerError, match=r"met 1 of its 6 noise levels, so it cannot be steered"):
        through(half, shrinking, make_methods(["fk"], {}, manager()))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("keep", 0.5, r"from 4 to 2, and ComfyUI's sampler keeps its batch; leave fk.keep out"),
        ("preset", "glass", r"no transitions of ODE steps; leave fk.preset=glass out"),
        ("lookahead", 2, r"fk.lookahead=2 needs predictions of its own, and ComfyUI's sampler makes one per step"),
    ],
)
def test_what_comfyuis_loop_cannot_do_is_refused_by_name(option, value, message) -> None:
    with pytest.raises(SteerError, match=message):
        through(sample_euler_ancestral, shrinking, make_methods(["fk"], {"fk": {option: value}}, manager()))


def test_a_reward_that_fails_says_at_which_step() -> None:
    def broken(samples, prompts):
        raise ValueError("out of ink")

    with pytest.raises(SteerError, match=r"'reward' raised ValueError: out of ink.*at step 1"):
        through(sample_euler_ancestral, shrinking, make_methods(["fk"], {}, manager()), reward=broken)
