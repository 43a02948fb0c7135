"""Guiders: those of diffusers' own modular pipelines, row by row, in every family that is guided."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from support.commands import Steer
from support.families import Family, each_class
from support.families.sd import tiny_sdxl

from steer import Sampler, SteerError
from steer_guiders import METHODS
from steer_guiders.methods import MAG

STEPS, SCALE = 4, 5.0
CASES = {
    "apg": ("AdaptiveProjectedGuidance", {"eta": 0.25, "norm": 3.0, "rescale": 0.4},
            {"eta": 0.25, "adaptive_projected_guidance_rescale": 3.0, "guidance_rescale": 0.4}),
    "cfg-zero": ("ClassifierFreeZeroStarGuidance", {"zero_steps": 2}, {"zero_init_steps": 2}),
    "tcfg": ("TangentialClassifierFreeGuidance", {"start": 0.25, "stop": 0.75}, {"start": 0.25, "stop": 0.75}),
}  # fmt: skip
FAMILIES = [family for family in each_class() if family.name not in ("flux-schnell", "sana-sprint")]


@pytest.fixture(scope="module")
def pipe():
    return tiny_sdxl()


def size(pipe) -> dict[str, int]:
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    return {"width": side, "height": side}


def images(sampler: Sampler, methods: tuple[str, ...] = (), options=None, **settings) -> torch.Tensor:
    """Return the pixels of one prompt's particles, as a reward sees them."""
    seen: list[torch.Tensor] = []

    def reward(samples, prompts):
        seen.append(samples.clone())
        return samples.mean(dim=(1, 2, 3))

    common = {"particles": 2, "steps": STEPS, "seed": 3, "choose": "all", "reward": reward}
    sampler.generate(["a red circle"], methods=methods, options=options or {}, **{**common, **settings})
    return torch.cat(seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_guider_of_the_modular_pipeline(pipe, name: str) -> None:
    from diffusers import StableDiffusionXLAutoBlocks, guiders

    guider, options, arguments = CASES[name]
    theirs = StableDiffusionXLAutoBlocks().init_pipeline()
    parts = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    theirs.update_components(**{part: pipe.components[part] for part in parts})
    theirs.update_components(guider=getattr(guiders, guider)(guidance_scale=SCALE, **arguments))
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        prompt="a red circle", num_inference_steps=STEPS, generator=torch.Generator().manual_seed(3), output="images",
        output_type="pt", **size(pipe),
    )  # fmt: skip
    ours = images(Sampler(pipe), (name,), {name: options}, guidance_scale=SCALE, particles=1)
    assert torch.allclose(ours, expected, atol=1e-4)
    plain = images(Sampler(pipe), guidance_scale=SCALE, particles=1)
    assert not torch.allclose(plain, expected, atol=1e-3)


def test_magnitudes_damp_the_guidance() -> None:
    """diffusers' own pipelines cannot call this guider: the formula as they have it, row by row."""
    generator = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 3, 4, 8, 8, generator=generator)
    method = MAG(MAG.Options(alpha=2.0))
    method._made, method._timesteps = {}, [999.0, 500.0]
    found = method.guided(cond, uncond, SCALE, torch.tensor(500))
    for row in range(3):
        shift = cond[row] - uncond[row]
        scale = 1 + (SCALE - 1) * torch.exp(-2.0 * shift.norm() / uncond[row].norm())
        assert torch.allclose(found[row], uncond[row] + scale * shift, atol=1e-5)


def test_a_projection_that_keeps_all_is_plain_guidance(pipe) -> None:
    options = {"apg": {"eta": 1.0, "norm": 0.0}}
    assert torch.allclose(
        images(Sampler(pipe), ("apg",), options, guidance_scale=SCALE),
        images(Sampler(pipe), guidance_scale=SCALE), atol=1e-5,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_guided_family_takes_it_row_by_row(family: Family) -> None:
    pipe = family.make()
    given = {**family.guided, "steps": max(family.fewest, 2)}
    if Sampler(pipe).backbone.cfg_setting == "true_cfg_scale":
        given["true_cfg_scale"] = 3.0
    if family.size is not None:
        given |= {"width": family.size[0], "height": family.size[1]}
    together = images(Sampler(pipe), ("cfg-zero",), {"cfg-zero": {"zero_steps": 0}}, **given, chunk=2)
    alone = images(Sampler(pipe), ("cfg-zero",), {"cfg-zero": {"zero_steps": 0}}, **given, chunk=1)
    assert together.isfinite().all() and torch.allclose(together, alone, atol=1e-4)
    assert not torch.equal(together, images(Sampler(pipe), **given, chunk=2))


@pytest.mark.slow
def test_it_composes_with_fk_and_replays(steer: Steer, tiny) -> None:
    done = steer(
        "generate", "a red circle", "-m", tiny, "-p", "apg", "-p", "fk", "-r", "./rewards.py:brightness", "-n", 4,
        "--steps", 4, "--guidance", 4, "-o", "apg.eta=0.5", "--out", "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "experimental" not in done.err
    made = sorted(Path("out").glob("*-[0-9][0-9][0-9].png"))
    assert json.loads(steer("replay", made[-1], "--allow-files", "--json").out)["equal"] is True


def test_mistakes_are_told(pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(pipe)

    def mistake(methods, options=None, **settings) -> str:
        with pytest.raises(SteerError) as caught:
            images(sampler, methods, options, **settings)
        return str(caught.value)

    assert "guidance is off at guidance_scale=1; raise --guidance" in mistake(("apg",), guidance_scale=1.0)
    assert "both guide this model; name one" in mistake(("apg", "tcfg"), guidance_scale=SCALE)
    assert "raise stop, or lower start" in mistake(("mag",), {"mag": {"start": 0.5, "stop": 0.5}}, guidance_scale=SCALE)
    if importlib.util.find_spec("kornia") is None:
        assert "kornia" in mistake(("fdg",), guidance_scale=SCALE)
    from diffusers import guiders

    monkeypatch.delattr(guiders, "MagnitudeAwareGuidance")
    assert "update diffusers" in mistake(("mag",), guidance_scale=SCALE)


def test_each_has_a_method_of_its_name() -> None:
    import steer_guiders.methods as module

    found = {cls.name for cls in vars(module).values() if getattr(cls, "guider", None)}
    assert found == METHODS.keys()
