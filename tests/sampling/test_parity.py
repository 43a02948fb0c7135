"""With no method active, output is the stock diffusers pipeline's at the same seeds."""

from __future__ import annotations

import diffusers
import pytest
import torch

from steer import SteerError
from steer.models.load import load_model
from steer.processes.gaussian import Gaussian
from steer.processes.noise import Streams
from steer.processes.schedulers import make_scheduler
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

TEXTS = ["a red circle", "a blue square"]
SEEDS = [5, 90]
STEPS = 5
"""One more than the schedulers' highest order."""
slow = pytest.mark.slow  # evaluates the model twice a step
CASES = [
    ("ddim", 0.0), ("ddim", 1.0), ("ddim", None), ("ddpm", None), ("euler", None), ("euler-a", None),
    ("dpm++", None), ("dpm++-sde", None), ("unipc", None), ("pndm", None), ("deis", None), ("lms", None),
    ("lcm", None), *(pytest.param(name, None, marks=slow) for name in ("heun", "dpm2", "dpm2-a")),
]  # fmt: skip
SPACED = [
    ("euler-karras", None), ("dpm++-exponential", None), ("dpm++-sde-exponential", None), ("unipc-karras", None),
    ("lms-karras", None), *(pytest.param(f"{name}-karras", None, marks=slow) for name in ("heun", "dpm2", "dpm2-a")),
]  # fmt: skip


def run_steer(pipe, scheduler: str | None, eta: float | None, **settings):
    prompts = [Prompt(text, seed=seed) for text, seed in zip(TEXTS, SEEDS, strict=True)]
    given = {"steps": STEPS, "scheduler": scheduler, "chunk": 4, "particles": 2, "guidance_scale": 5.0, "eta": eta}
    return make_run(load_model(pipe, manager()).backbone, prompts, settings={**given, **settings}).search()


def run_stock(pipe, scheduler: str | None, output: str, **keywords):
    parts = {**pipe.components, "scheduler": make_scheduler(scheduler, pipe.scheduler)}
    stock = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed + slot) for seed in SEEDS for slot in range(2)]
    return stock(
        TEXTS, num_images_per_prompt=2, num_inference_steps=STEPS, generator=generators, output_type=output,
        **{"guidance_scale": 5.0, **keywords},
    ).images  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "eta"), [*CASES, *SPACED])
def test_latents_equal_stock(tiny_pipe, scheduler, eta, record_testsuite_property) -> None:
    difference = farthest(tiny_pipe, scheduler, eta)
    record_testsuite_property(f"parity epsilon {scheduler} {eta}", difference)
    assert difference <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("eta", [None, 0.0, 0.7])
@pytest.mark.parametrize("name", ["DDIMScheduler", "DDIMParallelScheduler", "TCDScheduler"])
def test_schedulers_that_take_an_eta_get_that_of_the_stock_call(tiny_pipe, name, eta) -> None:
    scheduler = getattr(diffusers, name).from_config(tiny_pipe.scheduler.config)
    parts = {**tiny_pipe.components, "scheduler": scheduler}
    pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    stock = run_stock(pipe, None, "latent", **({} if eta is None else {"eta": eta}))
    assert torch.equal(run_steer(pipe, None, eta).x, stock)


@pytest.mark.slow  # every sampler once more
@pytest.mark.parametrize(("scheduler", "eta"), CASES)  # how levels are spaced has nothing to do with what is predicted
def test_latents_of_v_prediction_equal_stock(tiny_pipe_v, scheduler, eta, record_testsuite_property) -> None:
    difference = farthest(tiny_pipe_v, scheduler, eta)
    record_testsuite_property(f"parity v {scheduler} {eta}", difference)
    assert difference <= 1e-5


def farthest(pipe, scheduler: str, eta: float | None) -> float:
    state = run_steer(pipe, scheduler, eta)
    stock = run_stock(pipe, scheduler, "latent", **({} if eta is None else {"eta": eta}))
    return float((state.x - stock).abs().max() / stock.abs().max().clamp(min=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edm-euler", "edm-dpm++", "edm-dpm++-sde"])
def test_models_preconditioned_as_in_edm(tiny_pipe, name) -> None:
    parts = {**tiny_pipe.components, "scheduler": diffusers.EDMEulerScheduler()}
    edm = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    state, stock = run_steer(edm, name, None), run_stock(edm, name, "latent")
    assert (state.x - stock).abs().max() <= 1e-5 * stock.abs().max()
    one = Gaussian(make_scheduler(name, edm.scheduler))
    one.scheduler.set_timesteps(5)
    one = Gaussian(one.scheduler)
    torch.manual_seed(0)
    data, noise = torch.randn(2, 2, 4, 3, 3)
    while not one.done:  # for one data point, the model's output that denoises exactly is known
        sigma, half = one.level[1], one.scheduler.config.sigma_data
        x = data + sigma * noise
        one.model_input(x)
        norm = (sigma**2 + half**2) ** 0.5
        exact = (data - half**2 / norm**2 * x) * norm / (sigma * half)
        assert torch.allclose(one.estimate(x, exact), data, atol=1e-4)
        one.step(x, exact, Streams.seeded([1, 2], [0, 0]))


def test_schedulers_of_another_kind_are_refused_with_those_that_fit() -> None:
    flow, edm = diffusers.FlowMatchEulerDiscreteScheduler(), diffusers.EDMEulerScheduler()
    for name, base, fitting in (("ddim", flow, "flow-euler"), ("flow-euler", diffusers.DDIMScheduler(), "ddim, ddpm"),
                                ("euler", edm, "edm-euler")):  # fmt: skip
        with pytest.raises(
            SteerError, match=f"scheduler '{name}' is for .* models, this one is .* use one of {fitting}"
        ):
            make_scheduler(name, base)


def test_the_unet_pads_sizes_that_its_levels_do_not_divide(tiny_pipe) -> None:
    images = run_steer(tiny_pipe, "ddim", None, width=18, height=22, steps=2).samples
    assert images.shape == (4, 3, 22, 18) and torch.isfinite(images).all()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "euler-a"])
def test_images_equal_stock(tiny_pipe, scheduler) -> None:
    state = run_steer(tiny_pipe, scheduler, None)
    stock = run_stock(tiny_pipe, scheduler, "pt")
    assert (state.samples - stock).abs().max() <= 1e-5


@pytest.mark.slow
def test_without_guidance_and_with_a_negative_prompt(tiny_pipe) -> None:
    plain = run_steer(tiny_pipe, "ddim", None, guidance_scale=1.0)
    assert (plain.x - run_stock(tiny_pipe, "ddim", "latent", guidance_scale=1.0)).abs().max() <= 1e-5
    state = run_steer(tiny_pipe, "ddim", None, negative="a circle")
    stock = run_stock(tiny_pipe, "ddim", "latent", negative_prompt=["a circle"] * 2)
    assert (state.x - stock).abs().max() <= 1e-5
    assert (state.x - run_stock(tiny_pipe, "ddim", "latent")).abs().max() > 1e-4


@pytest.mark.slow  # seven runs
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_eta_on_euler_goes_from_euler_to_euler_ancestral(tiny_pipe, tiny_pipe_v, prediction) -> None:
    pipe = tiny_pipe if prediction == "epsilon" else tiny_pipe_v
    scale = float(run_steer(pipe, "euler", None).x.abs().max())
    for kernel, own in ((("euler", 1.0), "euler-a"), (("euler-a", 0.0), "euler")):
        assert (run_steer(pipe, *kernel).x - run_steer(pipe, own, None).x).abs().max() <= 2e-5 * max(scale, 1)
    between = run_steer(pipe, "euler", 0.5).x
    assert (between - run_steer(pipe, "euler", 0.0).x).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "eta"),
    [("ddim", 0.0), ("ddim", 0.4), ("ddim", 1.0), ("ddpm", None), ("euler", None), ("euler-a", None)],
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_closed_form_transition_is_the_stock_step(tiny_pipe, name, eta, prediction) -> None:
    if (name, prediction) == ("euler-a", "sample"):
        pytest.skip("diffusers has no such scheduler")
    base = type(tiny_pipe.scheduler).from_config(tiny_pipe.scheduler.config, prediction_type=prediction)

    def process() -> Gaussian:
        scheduler = make_scheduler(name, base)
        scheduler.set_timesteps(7)
        return Gaussian(scheduler, eta=eta)

    torch.manual_seed(0)
    closed, stock = process(), process()
    x = stock.prior(torch.randn(3, 4, 2, 2))
    while not stock.done:
        prediction_ = torch.randn_like(x)
        stock.model_input(x), closed.model_input(x)
        mean, sd = closed.transition(x, closed.estimate(x, prediction_))
        level = closed._next_level(closed.index)
        z = Streams.seeded([1, 2, 3], [stock.index] * 3).normal(x.shape[1:], "cpu")
        x_next = stock.step(x, prediction_, Streams.seeded([1, 2, 3], [stock.index] * 3))
        assert torch.allclose(mean + sd * z, x_next, rtol=1e-4, atol=2e-5 * float(x.abs().max()))
        closed.step(x, prediction_, Streams.seeded([1, 2, 3], [0] * 3))
        if not stock.done and name.startswith("dd"):
            assert stock.level == pytest.approx(level)
        x = x_next
    if eta is None and name in ("ddpm", "euler-a"):
        assert stock.stochastic
