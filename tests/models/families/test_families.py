"""What every model family must do, shown on each at a tiny random size."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import accelerate
import pytest
import torch
from support.families import Family, all_families
from support.pretended import pretended
from support.tiny import brightness

from steer import Sampler
from steer.models.load import load_model
from steer.processes.schedulers import make_scheduler
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run
from steer.sampling.state import State

SEEDS = [5, 90]
STEPS = 4
SAMPLERS = [(family, scheduler) for family in all_families() for scheduler in (None, *family.schedulers)]
pytestmark = pytest.mark.slow  # thirteen pipelines through every check

each_family = pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)


@functools.lru_cache(maxsize=3)
def pipeline(name: str) -> Any:
    return next(family for family in all_families() if family.name == name).make()


@pytest.fixture(autouse=True)
def small_backbone(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    if family.backbone:
        cls = type(load_model(pipeline(family.name), manager()).backbone)
        for name, value in family.backbone.items():
            monkeypatch.setattr(cls, name, value)


def size(family: Family) -> dict[str, int]:
    return {} if family.size is None else {"width": family.size[0], "height": family.size[1]}


def run(family: Family, pipe: Any, *, rows: slice = slice(None), **settings: Any) -> State:
    prompts = [Prompt(text, seed=seed) for text, seed in zip(family.texts, SEEDS, strict=True)][rows]
    given = {"steps": STEPS, "chunk": 4, "particles": 2, **family.guided, **size(family), **settings}
    return make_run(load_model(pipe, manager()).backbone, prompts, settings=given).search()


def stock(family: Family, pipe: Any, scheduler: str | None, output: str, **keywords: Any) -> torch.Tensor:
    named = make_scheduler(scheduler, pipe.scheduler)
    # the pipeline asks for the model's shift here, which from_config() of a foreign class hands on too
    named.register_to_config(**{**pipe.scheduler.config, **named.config})
    theirs = type(pipe)(**{**pipe.components, "scheduler": named})
    theirs.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed + slot) for seed in SEEDS for slot in range(2)]
    copies = 2 if family.by_row else 1
    # lists are copies, for some pipelines write into them
    given = {name: repeat(value, copies) if isinstance(value, list) else value for name, value in keywords.items()}
    images: torch.Tensor = theirs(
        prompt=repeat(family.texts, copies), num_images_per_prompt=2 // copies, num_inference_steps=STEPS,
        generator=generators, output_type=output, **size(family), **given,
    ).images  # fmt: skip
    return family.spatial(images) if output == "latent" else images


def repeat(texts: Sequence[str], copies: int) -> list[str]:
    return [text for text in texts for _ in range(copies)]


def farthest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


@pytest.mark.parametrize(("family", "scheduler"), SAMPLERS, ids=lambda value: getattr(value, "name", value))
def test_latents_equal_stock(family: Family, scheduler: str | None, record_testsuite_property) -> None:
    pipe = pipeline(family.name)
    theirs = stock(family, pipe, scheduler, "latent", **family.stock)
    difference = farthest(run(family, pipe, scheduler=scheduler).x, theirs)
    record_testsuite_property(f"parity {family.name} {scheduler}", difference)
    assert difference <= family.tolerance


@each_family
def test_images_equal_stock_with_and_without_guidance_and_negative(family: Family) -> None:
    pipe = pipeline(family.name)
    texts = family.negative.get("negative_prompt")
    cases = [(family.guided, family.stock), (family.plain, family.stock_plain)]
    if texts:
        cases.append(({"negative": texts[0]}, {**family.stock, **family.negative}))
    images = []
    for ours, theirs in cases:
        images.append(run(family, pipe, **ours).samples)
        assert farthest(images[-1], stock(family, pipe, None, "pt", **theirs)) <= 1e-5
    for other in images[1:]:  # or nothing of it would have reached the model
        assert not torch.allclose(images[0], other, atol=1e-6)


@each_family
def test_a_row_does_not_depend_on_its_neighbors(family: Family) -> None:
    pipe = pipeline(family.name)
    together = run(family, pipe, **family.stochastic)
    scale = max(1.0, float(together.x.abs().max()))
    for chunk in (1, 3):
        again = run(family, pipe, chunk=chunk, **family.stochastic)
        assert (again.x - together.x).abs().max() <= 1e-4 * scale
    alone = run(family, pipe, rows=slice(1, 2), **family.stochastic)
    assert torch.equal(alone.x, together.x[2:])  # bit for bit at one chunk size


@each_family
def test_fk_moves_brightness_up_by_more_than_chance(family: Family) -> None:
    pipe = pipeline(family.name)
    prompts = [Prompt(f"{family.texts[i % 2]} {i}", seed=10 * i) for i in range(14)]

    def mean_by_prompt(methods: list[str]) -> torch.Tensor:
        result = Sampler(pipe).generate(
            prompts, methods=methods, reward=brightness, options={"fk": {"lambda": 1000.0}} if methods else None,
            particles=4, steps=5, chunk=20, **{**family.plain, **size(family), **family.stochastic},
        )  # fmt: skip
        return torch.tensor([item.mean_reward for item in result.items])

    gain = mean_by_prompt(["fk"]) - mean_by_prompt([])
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5


@functools.lru_cache(maxsize=1)
def in_double(name: str) -> tuple[Sampler, tuple[int, ...]]:
    pipe = next(family for family in all_families() if family.name == name).make()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.double()
    sampler = Sampler(pipe)
    family = next(family for family in all_families() if family.name == name)
    return sampler, sampler.backbone.latent_shape(*(family.size or (None, None)))


def objective(family: Family, noise: torch.Tensor, grad: bool, steps: int = 3) -> torch.Tensor:
    sampler, _ = in_double(family.name)
    settings = {**family.guided, **family.stochastic, **size(family)}
    samples = sampler.sample(noise, [family.texts[0]], grad=grad, steps=steps, seed=1, chunk=2, **settings)
    return samples.double().pow(2).mean()


@each_family
def test_gradient_by_the_noise_agrees_with_finite_differences(family: Family) -> None:
    torch.manual_seed(0)
    _, shape = in_double(family.name)
    noise = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(family, noise, True), noise)
    # along the gradient the difference stands out from the rounding of float32 samples
    direction, step = gradient / gradient.norm(), 0.02
    up = objective(family, noise.detach() + step * direction, False)
    down = objective(family, noise.detach() - step * direction, False)
    assert float(gradient.norm()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-2)


def saved_bytes(family: Family, steps: int) -> int:
    """Return the bytes that autograd keeps for the backward pass, each storage counted once."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    _, shape = in_double(family.name)
    noise = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        objective(family, noise, True, steps)
    return sum(seen.values())


@each_family
def test_gradients_are_those_of_the_cpu_also_if_a_gpu_computes_activations_again(family: Family) -> None:
    given = {"steps": 2, "particles": 2, "chunk": 2, **family.guided, **size(family)}

    def gradient(pipe: Any, *, recompute: bool) -> torch.Tensor:
        one = make_run(load_model(pipe, manager()).backbone, [Prompt(family.texts[0], seed=5)], settings=given)
        return vjp(one, one.start, {"brightness": brightness}, recompute=recompute).grads.cpu()

    expected = gradient(family.make(), recompute=False)
    with pretended():
        found = [gradient(family.make().to("cuda"), recompute=recompute) for recompute in (False, True)]
    for one in found:
        assert (one - expected).abs().max() <= 1e-5 * expected.abs().max()


@each_family
def test_memory_for_the_graph_hardly_grows_with_the_steps(family: Family) -> None:
    _, shape = in_double(family.name)
    latents = 2 * 8 * torch.Size(shape).numel()
    few, many = saved_bytes(family, 4), saved_bytes(family, 16)
    # some latents a step and the checkpoints' inputs, never a denoiser's activations
    assert many - few <= 12 * 24 * latents


@each_family
def test_sizes_that_do_not_fit_are_refused(family: Family) -> None:
    backbone = load_model(pipeline(family.name), manager()).backbone
    native = backbone.latent_shape(None, None)
    assert len(native) == 3
    width, height = backbone.pixels(native)
    assert backbone.latent_shape(width, height) == native
    with pytest.raises(Exception, match="does not fit the model: expected a multiple of"):
        backbone.latent_shape(17, 16)


@each_family
def test_a_saved_folder_is_the_same_model(family: Family, tmp_path) -> None:
    pipe = pipeline(family.name)
    pipe.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), manager(), device="cpu").backbone.pipe
    assert torch.equal(run(family, loaded).x, run(family, pipe).x)


@each_family
def test_in_half_precision_and_offloaded_it_is_the_same_model(family: Family) -> None:
    pipe = family.make()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):  # weights leave for the meta device, as with --offload sequential
            buffers = bool(part._parameters)
            accelerate.cpu_offload(part.to(torch.bfloat16), torch.device("cpu"), offload_buffers=buffers)
    half, full = (run(family, made, steps=2) for made in (pipe, pipeline(family.name)))
    assert half.x.dtype == half.samples.dtype == torch.float32  # only the model computes in half precision
    assert (half.samples - full.samples).abs().mean() < 0.02


@each_family
def test_a_negative_prompt_without_guidance_warns(family: Family) -> None:
    pipe = pipeline(family.name)
    with pytest.warns(UserWarning, match="the negative prompt has no effect"):
        run(family, pipe, **{**family.plain, "negative": "a circle", "steps": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(family, pipe, **{**family.plain, "steps": 2})
