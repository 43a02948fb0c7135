"""Pipelines without a family: what is unsteered is the stock call's, and what steers does."""

from __future__ import annotations

import inspect

import pytest
import torch
from support.any_pipelines import Kind, image_kinds, photo
from support.edit_pipelines import tiny_sd_with_adapter
from support.steered import PARTICLES, moved_by_fk, populations
from support.tiny import brightness

import steer
from steer import SteerError

KINDS = {kind.name: kind for kind in image_kinds()}
IMG2IMG = KINDS["StableDiffusionImg2ImgPipeline"]
STEPS = 4


def stock(pipe, kind: Kind, seed: int, text: str = "a red circle") -> torch.Tensor:
    taken = inspect.signature(pipe.__call__).parameters
    words = {"prompt": text} if "prompt" in taken else {}
    generator = torch.Generator().manual_seed(seed)
    images = pipe(
        **words, **kind.inputs, **kind.stock, num_inference_steps=kind.steps, generator=generator, output_type="pt"
    ).images
    images = images if isinstance(images, torch.Tensor) else torch.from_numpy(images).movedim(-1, 1)
    return images[0].float()


def prompt(kind: Kind, text: str = "a red circle") -> steer.Prompt:
    return steer.Prompt(text, seed=5, metadata=kind.inputs)


class Seen:
    """A reward that keeps what it saw."""

    def __init__(self) -> None:
        self.samples: list[torch.Tensor] = []

    def __call__(self, samples, prompts):
        self.samples += list(samples)
        return brightness(samples, prompts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_class_gives_the_stock_image_and_is_steered(kind: Kind) -> None:
    pipe = kind.make()
    sampler, seen = steer.Sampler(pipe), Seen()
    sampler.generate([prompt(kind)], particles=2, steps=kind.steps, reward=seen, **kind.settings)
    for row, image in enumerate(seen.samples):
        assert torch.equal(image, stock(pipe, kind, 5 + row))
    plain = populations(sampler, kind)
    search = {"methods": ["best-of-n"], "options": {"best-of-n": {"n": PARTICLES}}}
    best = populations(sampler, kind, count=1, particles=None, **search)
    assert best.items[0].reward == max(plain.rewards[0])
    assert moved_by_fk(sampler, kind, plain) > 3  # standard errors


@pytest.mark.slow
@pytest.mark.thorough
def test_the_picture_of_an_ip_adapter_is_an_input() -> None:
    pipe = tiny_sd_with_adapter()
    kind = Kind("StableDiffusionPipeline", lambda: pipe, {"ip_adapter_image": photo(32)})
    sampler = steer.Sampler(pipe, model_options=steer.ModelOptions(pipeline=kind.name))
    seen = Seen()
    sampler.generate([prompt(kind)], steps=kind.steps, reward=seen)
    assert torch.equal(seen.samples[0], stock(pipe, kind, 5))
    other = Kind(kind.name, kind.make, {"ip_adapter_image": photo(32, 90)})
    assert not torch.allclose(seen.samples[0], stock(pipe, other, 5), atol=1e-4)
    assert moved_by_fk(sampler, kind, populations(sampler, kind)) > 3


@pytest.fixture(scope="module")
def pipe():
    return IMG2IMG.make()


@pytest.mark.slow
def test_the_rows_of_a_call_do_not_depend_on_how_many_it_has(pipe) -> None:
    sampler, found = steer.Sampler(pipe), []
    for chunk in (1, 2, 3):
        result = sampler.generate(
            [prompt(IMG2IMG)], particles=4, steps=STEPS, chunk=chunk, reward=brightness, methods=["fk"],
            options={"fk": {"lambda": 300.0}},
        )  # fmt: skip
        found.append(torch.tensor(result.rewards[0]))
        assert result.cost.padding == (0 if chunk < 3 else 2 * 3 * 2)
    assert torch.allclose(found[0], found[1], atol=1e-5)
    assert torch.allclose(found[0], found[2], atol=1e-5)


@pytest.mark.slow
def test_two_rows_per_call_are_the_stock_call_of_two(pipe) -> None:
    seen = Seen()
    steer.Sampler(pipe).generate([prompt(IMG2IMG)], particles=2, steps=STEPS, chunk=2, reward=seen)
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    images = pipe(
        "a red circle", **IMG2IMG.inputs, num_images_per_prompt=2, num_inference_steps=STEPS, generator=generators,
        output_type="pt",
    ).images  # fmt: skip
    assert torch.equal(torch.stack(seen.samples), images)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["euler", "euler-a", "dpm++", "unipc", "heun", "pndm"])
def test_schedulers_by_name_are_the_pipelines_with_that_scheduler(pipe, scheduler) -> None:
    from steer.processes.schedulers import make_scheduler

    seen = Seen()
    steer.Sampler(pipe).generate([prompt(IMG2IMG)], steps=STEPS, scheduler=scheduler, reward=seen)
    other = type(pipe)(
        **{**pipe.components, "scheduler": make_scheduler(scheduler, pipe.scheduler)}, requires_safety_checker=False
    )
    other.set_progress_bar_config(disable=True)
    assert torch.equal(seen.samples[0], stock(other, IMG2IMG, 5))


@pytest.mark.slow
def test_searches_work(pipe) -> None:
    sampler = steer.Sampler(pipe)
    for method, options in (
        ("random", {"nfe": 36}),
        ("zero-order", {"rounds": 1}),
        ("beam", {"particles": 4, "at": (0.3,)}),
        ("prune", {"particles": 4, "at": (0.3,)}),
    ):
        result = sampler.generate(
            [prompt(IMG2IMG)], steps=STEPS, reward=brightness, methods=[method], options={method: options}
        )
        assert result.items[0].reward == max(result.rewards[0])
    assert result.cost.nfe == 2 * (4 * 2 + 2 * 1)  # guidance counts twice; 3 steps are left of 4 by the strength


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("fk", {"lambda": 1e6, "keep": 0.5, "at": (1,)}),
        ("fk", {"lambda": 1e6, "keep": 0.5, "start": 0.0, "end": 0.0}),  # of the steps that are left by the strength
        ("beam", {"at": (0.3,)}),
    ],
)
def test_copies_go_on_though_the_population_shrinks(pipe, method: str, options: dict) -> None:
    given = {"steps": STEPS, "reward": brightness, "methods": [method], "choose": "all", "chunk": 1}
    found = steer.Sampler(pipe).generate([prompt(IMG2IMG)], options={method: {"particles": 4, **options}}, **given)
    assert len({sample.image.tobytes() for sample in found.items[0].samples}) == 2
    moves = [event["ancestors"] for event in found.items[0].trace["events"] if event["kind"] == "resample"]
    assert any(len(set(ancestors)) < len(ancestors) for ancestors in moves)


@pytest.mark.slow
def test_zero_order_begins_with_the_stock_noise(pipe) -> None:
    sampler = steer.Sampler(pipe)
    common = {"steps": STEPS, "reward": brightness, "particles": 3}
    search = {"methods": ["zero-order"], "options": {"zero-order": {"rounds": 0, "keep": 3}}}
    found = sampler.generate([prompt(IMG2IMG)], **common, **search, choose="all")
    plain = sampler.generate([prompt(IMG2IMG)], **common)
    assert sorted(found.rewards[0]) == sorted(plain.rewards[0])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("fk", {"lookahead": 1}),
        ("prune", {"lookahead": 1}),
        ("beam", {"lookahead": 1}),
        ("carinox", {}),
        ("dmd2", {}),
        ("refine", {}),
    ],
)
def test_what_asks_for_predictions_of_its_own_is_refused_before_anything_is_computed(pipe, method, options) -> None:
    sampler = steer.Sampler(pipe)
    with pytest.raises(SteerError, match="of its own, and of StableDiffusionImg2ImgPipeline only whole calls"):
        sampler.generate([prompt(IMG2IMG)], steps=2, reward=brightness, methods=[method], options={method: options})
    assert sampler.last_cost.nfe == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"width": 32}, "takes no width"), ({"true_cfg_scale": 3.0}, "takes no true_cfg_scale")],
)
def test_settings_that_the_call_does_not_take_are_refused(pipe, settings, message) -> None:
    with pytest.raises(SteerError, match=message):
        steer.Sampler(pipe).generate([prompt(IMG2IMG)], steps=2, **settings)


def test_inputs_that_are_missing_are_named() -> None:
    inpaint = KINDS["StableDiffusionInpaintPipeline"].make()
    with pytest.raises(SteerError, match=r"cannot be called so: .*it takes image, mask_image"):
        steer.Sampler(inpaint).generate("a red circle", steps=2)
    with pytest.raises(SteerError, match=r"DiTPipeline needs class_labels \(a whole number, or a list"):
        steer.Sampler(KINDS["DiTPipeline"].make()).generate("a red circle", steps=2)


def test_a_pipeline_that_makes_sound_is_refused() -> None:
    from diffusers import StableAudioPipeline

    from steer.models.stock.signature import CallSignature

    with pytest.raises(SteerError, match="it makes audio, and steer steers calls that make images and videos"):
        CallSignature(StableAudioPipeline).check()


@pytest.mark.slow
def test_the_pipeline_is_left_as_it_was(pipe) -> None:
    before = {name: id(value) for name, value in vars(pipe).items()}
    steer.Sampler(pipe).generate([prompt(IMG2IMG)], steps=2, reward=brightness, methods=["fk"], particles=2)
    assert {name: id(value) for name, value in vars(pipe).items()} == before
    assert "step" not in vars(pipe.scheduler)
    assert not pipe.unet._forward_hooks
