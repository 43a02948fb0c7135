"""Guidance by changed layers: PAG and SLG of diffusers' pipelines, SEG's formula, honest costs, layers put back."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from support.families import Family, each_class
from support.families.pixart import FAMILIES as PIXART
from support.families.sana import tiny_sana
from support.families.sd import tiny_sd3, tiny_sdxl
from support.tiny import brightness, tiny_sd

from steer import Prompt, Sampler, SteerError
from steer.models.load import load_model
from steer.registry.plugins import manager
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run
from steer_guiders.layers import blur
from steer_guiders.weaker import PAG, SEG

STEPS = 4
FAMILIES = [family for family in each_class() if family.name not in ("sd", "sdxl")]


def images(
    pipe: Any, method: str | None = None, options: dict[str, Any] | None = None, **settings: Any
) -> torch.Tensor:
    """Return the pixels of one prompt's particles, as a reward sees them."""
    seen: list[torch.Tensor] = []

    def reward(samples: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        seen.append(samples.clone())
        return samples.mean(dim=(1, 2, 3))

    common = {"steps": STEPS, "seed": 3, "choose": "all", "reward": reward}
    methods, given = ([method], {method: options or {}}) if method else ([], {})
    Sampler(pipe).generate(["a red circle"], methods=methods, options=given, **{**common, **settings})
    return torch.cat(seen)


def stock(pipe: Any, steps: int = STEPS, **keywords: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    made: torch.Tensor = pipe(
        "a red circle", num_inference_steps=steps, generator=generator, output_type="pt", **keywords
    ).images
    return made


def tiny_pixart() -> Any:
    return next(family for family in PIXART if "sigma" in family.name).make()


def thorough(value: Any) -> Any:
    """Mark a value of a parameter as one that ``make test`` leaves out."""
    return pytest.param(value, marks=pytest.mark.thorough)


EXACT = {"use_resolution_binning": False, "width": 16, "height": 16}
PERTURBED = {
    "StableDiffusionPAGPipeline": (tiny_sd, "mid", "mid", {}),
    "StableDiffusionXLPAGPipeline": (tiny_sdxl, "down_blocks.1", "down_blocks.1", {}),
    "StableDiffusion3PAGPipeline": (tiny_sd3, "1", "blocks.1", {}),
    "PixArtSigmaPAGPipeline": (tiny_pixart, "0", "blocks.0", {**EXACT, "clean_caption": False}),
    "SanaPAGPipeline": (tiny_sana, "0", "transformer_blocks.0", {**EXACT, "width": 32, "height": 32}),
}


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [5.0, thorough(1.0)])
@pytest.mark.parametrize("name", ["StableDiffusionPAGPipeline", *(thorough(name) for name in list(PERTURBED)[1:])])
def test_pag_is_that_of_the_stock_pipeline(name: str, guidance: float) -> None:
    make, layer, theirs, keywords = PERTURBED[name]
    pipe = make()
    settings = {key: keywords[key] for key in ("width", "height") if key in keywords}
    given = {"guidance_scale": guidance, **settings}
    ours = images(pipe, "pag", {"scale": 2.0, "layers": layer}, **given)
    plain = images(pipe, **given)
    parts = {part: module for part, module in pipe.components.items() if module is not None}
    if "requires_safety_checker" in pipe.config:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    other = getattr(diffusers, name)(**parts, pag_applied_layers=theirs)
    expected = stock(other, guidance_scale=guidance, pag_scale=2.0, **keywords)
    assert torch.allclose(ours, expected, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-3)


@pytest.mark.slow
def test_slg_is_that_of_the_stock_pipeline() -> None:
    pipe = tiny_sd3()
    ours = images(pipe, "slg", {"layers": "1", "stop": 0.6, "scale": 3.0}, guidance_scale=5.0)
    expected = stock(
        pipe, guidance_scale=5.0, skip_guidance_layers=[1], skip_layer_guidance_stop=0.6, skip_layer_guidance_scale=3.0
    )
    assert torch.allclose(ours, expected, atol=1e-4)
    assert not torch.allclose(images(pipe, guidance_scale=5.0), expected, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("size", [(8, 8), (5, 12), (3, 1)])
def test_a_blur_is_a_convolution_with_mirrored_borders(sigma: float, size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    reach = [min(-(-6 * sigma // 1) // 2, side - 1) for side in size]
    found, expected = blur(image, sigma), image.double()
    for dim, most in zip((-2, -1), (int(one) for one in reach), strict=True):
        weights = torch.exp(-0.5 * (torch.arange(-most, most + 1).double() / sigma) ** 2)
        kernel = (weights / weights.sum()).view(1, 1, 1, -1).expand(3, 1, 1, -1)
        turned = expected if dim == -1 else expected.mT
        padded = torch.nn.functional.pad(turned, (most, most, 0, 0), mode="reflect")
        turned = torch.nn.functional.conv2d(padded, kernel, groups=3)
        expected = turned if dim == -1 else turned.mT
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(blur(image, float("inf")), image.mean(dim=(2, 3), keepdim=True).expand_as(image))


@pytest.mark.slow
@pytest.mark.thorough
def test_seg_changes_nothing_without_blur_and_much_with_it() -> None:
    pipe = tiny_sdxl()
    given = {"guidance_scale": 5.0, "width": 16, "height": 24}
    plain = images(pipe, **given)
    assert torch.allclose(images(pipe, "seg", {"sigma": 0.01, "layers": "down_blocks"}, **given), plain, atol=1e-5)
    some = images(pipe, "seg", {"sigma": 1.0, "layers": "down_blocks"}, **given)
    whole = images(pipe, "seg", {"layers": "down_blocks"}, **given)
    assert not torch.allclose(some, plain, atol=1e-3) and not torch.allclose(whole, some, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_the_cost_is_what_the_denoiser_computes(guidance: float) -> None:
    pipe, rows = tiny_sd(), []
    pipe.unet.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    sampler = Sampler(pipe)
    options = {"pag": {"stop": 0.5}, "best-of-n": {"nfe": 40}}
    result = sampler.generate(
        ["a red circle"], methods=["best-of-n", "pag"], options=options, steps=STEPS, reward=brightness,
        guidance_scale=guidance, chunk=3,
    )  # fmt: skip
    once = STEPS * (2 if guidance > 1 else 1) + STEPS // 2
    assert result.cost.nfe == 40 // once * once
    assert result.cost.nfe + result.cost.padding == sum(rows)


@pytest.mark.slow
@pytest.mark.parametrize("method", [PAG(), thorough(SEG(SEG.Options(sigma=1.0)))], ids=["pag", "seg"])
def test_gradients_agree_with_finite_differences(method: Any) -> None:
    pipe = tiny_sd()
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.double()
    backbone = load_model(pipe, manager()).backbone
    settings = {"steps": 2, "guidance_scale": 3.0, "particles": 2, "chunk": 1}
    run = make_run(backbone, [Prompt("a red circle", seed=3)], settings=settings, methods=[method])
    noise = run.noise(run.start).double()
    losses = {"energy": lambda samples, prompts: samples.double().pow(2).mean(dim=(1, 2, 3))}
    gradient = vjp(run, run.start.with_noise(noise), losses).grads[0]
    direction = torch.randn(noise.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    direction += gradient * (direction.norm() / gradient.norm())  # a random one may be nearly level
    up, down = (vjp(run, run.start.with_noise(noise + sign * 1e-3 * direction), losses).values[0] for sign in (1, -1))
    slope = (gradient * direction).flatten(1).sum(dim=1)
    assert slope.tolist() == pytest.approx(((up - down) / 2e-3).tolist(), rel=5e-3)
    assert run.cost.nfe == 3 * 2 * 2 * 3 and run.cost.backwards == 3 * 2 * 2 * 3


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_transformer_takes_it_row_by_row(family: Family) -> None:
    pipe = family.make()
    given = {**family.guided, "steps": max(family.fewest, 2), "particles": 2}
    if family.size is not None:
        given |= {"width": family.size[0], "height": family.size[1]}
    options = {"layers": "0", "start": 0.0, "stop": 1.0}
    together, alone = (images(pipe, "slg", options, **given, chunk=chunk) for chunk in (2, 1))
    assert together.isfinite().all() and torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(together, images(pipe, **given, chunk=2), atol=1e-5)


@pytest.mark.parametrize(("method", "make"), [("pag", tiny_sd), ("seg", tiny_sd), ("slg", tiny_sd3)])
def test_layers_are_put_back_after_an_error(method: str, make: Any) -> None:
    pipe = make()
    denoiser = pipe.unet if make is tiny_sd else pipe.transformer

    def state() -> list[Any]:
        return [
            (id(getattr(module, "processor", None)), "forward" in vars(module), len(module._forward_hooks))
            for module in denoiser.modules()
        ]

    before = state()
    last = list(denoiser.modules())[-1]
    calls = []

    def fail(*_: Any) -> None:
        calls.append(state() != before)
        if len(calls) == 2 or method == "pag":
            raise RuntimeError("no more")

    handle = last.register_forward_pre_hook(fail)
    before = state()
    with pytest.raises(RuntimeError, match="no more"):
        images(pipe, method, {"layers": "1", "start": 0.0} if method == "slg" else {}, guidance_scale=1.0)
    assert calls[-1] and state() == before
    handle.remove()


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        (["pag"], {"pag": {"layers": "mid,nowhere"}}, "pag.layers=nowhere: no self-attention that it knows"),
        (["slg"], {}, "slg.layers=7: no transformer block of this UNet2DConditionModel is named so"),
        (["pag", "seg"], {}, "seg and another method both guide away from a weaker prediction"),
        (["draft", "pag"], {"draft": {"cache": 2}}, "draft.cache cannot tell the calls of guidance by changed layers"),
        (["pag"], {"pag": {"start": 0.5, "stop": 0.5}}, "nothing would be guided"),
    ],
)
def test_mistakes_are_told(methods: list[str], options: dict[str, Any], message: str) -> None:
    sampler = Sampler(tiny_sd())
    with pytest.raises(SteerError, match=message):
        sampler.generate(["a red circle"], methods=methods, options=options, steps=4, reward=brightness)
    assert sampler.last_cost.nfe == 0
