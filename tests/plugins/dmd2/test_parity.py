"""Generation equals stock diffusers' recipe for the published students, at tiny random sizes."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import Family, all_families
from support.families.pixart import tiny_alpha
from support.tiny_students import lora_file, lora_of, tiny_sdxl, unet_file

from steer.models.options import denoiser_of
from steer.prompts.prompt import Prompt
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer.sampling.sampler import Sampler
from steer_dmd2.presets import PRESETS

TEXTS = ["a red circle", "a blue square"]
FOUR = (999, 749, 499, 249)


@pytest.fixture(scope="module")
def pipe() -> diffusers.StableDiffusionXLPipeline:
    return tiny_sdxl()


def stock(pipe, file: Path, timesteps) -> torch.Tensor:
    """The recipe of the published model card: LCM scheduler, explicit timesteps, guidance 0; LoRA fused at 1."""
    parts = {**pipe.components, "unet": copy.deepcopy(pipe.unet)}
    parts["scheduler"] = diffusers.LCMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    other = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    other.set_progress_bar_config(disable=True)
    if file.suffix == ".bin":
        other.unet.load_state_dict(torch.load(file, weights_only=True))
    else:
        other.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="student")
        other.fuse_lora(lora_scale=1.0)
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 8, 7, 8)]
    return other(
        TEXTS, num_images_per_prompt=2, num_inference_steps=len(timesteps), timesteps=list(timesteps),
        guidance_scale=0, generator=generators, output_type="pt",
    ).images  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", ["unet", "lora"])
@pytest.mark.parametrize("timesteps", [(399,), FOUR])
def test_images_equal_stock(pipe, tmp_path, form: str, timesteps, record_testsuite_property) -> None:
    file = unet_file(pipe, tmp_path / "s.bin") if form == "unet" else lora_file(pipe, tmp_path / "s.safetensors")
    expected = stock(pipe, file, timesteps)
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    sampler = Sampler(pipe)
    options = {"student": str(file), "steps": len(timesteps)}
    methods = make_methods(["dmd2"], {"dmd2": options}, sampler.plugins)
    run = make_run(
        sampler.backbone, [Prompt(text, seed=7) for text in TEXTS], methods=methods,
        settings={"particles": 2, "chunk": 4},
    )  # fmt: skip
    difference = float((run.search().samples - expected).abs().max())
    record_testsuite_property(f"parity dmd2 {form} {len(timesteps)}", difference)
    assert difference <= 1e-5
    after = pipe.unet.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    base = make_run(sampler.backbone, [Prompt(TEXTS[0], seed=7)], settings={"steps": 2, "guidance_scale": 1.0})
    assert (base.search().samples - expected[:1]).abs().max() > 1e-3


def test_the_one_step_student_of_pixart_equals_stock(tmp_path) -> None:
    # its table of positions is in no file: it must come from the model
    base = tiny_alpha()
    generator = torch.Generator().manual_seed(3)
    state = {name: value + 0.05 * torch.randn(value.shape, generator=generator)
             for name, value in base.transformer.state_dict().items()}  # fmt: skip
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    student = copy.deepcopy(base.transformer)
    student.load_state_dict(state)
    scheduler = diffusers.DDPMScheduler.from_config(base.scheduler.config, clip_sample=False)
    other = diffusers.PixArtAlphaPipeline(**{**base.components, "transformer": student, "scheduler": scheduler})
    other.set_progress_bar_config(disable=True)
    expected = other(
        TEXTS[0], timesteps=[400], num_inference_steps=1, guidance_scale=1.0, use_resolution_binning=False,
        generator=torch.Generator().manual_seed(7), output_type="pt",
    ).images  # fmt: skip
    sampler = Sampler(base)
    methods = make_methods(["dmd2"], {"dmd2": {"weights": str(tmp_path)}}, sampler.plugins)
    ours = make_run(sampler.backbone, [Prompt(TEXTS[0], seed=7)], methods=methods).search().samples
    assert (ours - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(("name", "cls"), [("euler-trailing", "EulerDiscreteScheduler"),
                                           ("euler-a-trailing", "EulerAncestralDiscreteScheduler")])  # fmt: skip
def test_turbo_schedulers_equal_stock(pipe, name: str, cls: str) -> None:
    scheduler = getattr(diffusers, cls).from_config(pipe.scheduler.config, timestep_spacing="trailing")
    parts = {**pipe.components, "scheduler": scheduler}
    other = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    other.set_progress_bar_config(disable=True)
    expected = other(
        TEXTS[0], num_inference_steps=2, guidance_scale=0, generator=torch.Generator().manual_seed(7), output_type="pt"
    ).images
    settings = {"scheduler": name, "steps": 2, "guidance_scale": 0.0}
    ours = make_run(Sampler(pipe).backbone, [Prompt(TEXTS[0], seed=7)], settings=settings).search().samples
    assert (ours - expected).abs().max() <= 1e-5


RECIPES = {
    "sdxl-lightning": {
        1: ("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "prediction_type": "sample"}, None),
        4: ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, None),
    },
    "sdxl-lightning-lora": {2: ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, None)},
    "hyper-sdxl": {
        1: ("LCMScheduler", {}, (800,)),
        4: ("DDIMScheduler", {"timestep_spacing": "trailing"}, None),
    },
    "hyper-sd15": {
        1: ("TCDScheduler", {}, None),
        2: ("DDIMScheduler", {"timestep_spacing": "trailing"}, None),
    },
    "lcm-sdxl": {4: ("LCMScheduler", {}, None)},
    "lcm-sd15": {8: ("LCMScheduler", {}, None)},
    "flux-turbo": {8: ("FlowMatchEulerDiscreteScheduler", {}, None)},
    "hyper-flux": {8: ("FlowMatchEulerDiscreteScheduler", {}, None)},
    "qwen-image-lightning": {
        4: (
            "FlowMatchEulerDiscreteScheduler",
            {"base_image_seq_len": 256, "base_shift": math.log(3), "invert_sigmas": False, "max_image_seq_len": 8192,
             "max_shift": math.log(3), "num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": None,
             "stochastic_sampling": False, "time_shift_type": "exponential", "use_beta_sigmas": False,
             "use_dynamic_shifting": True, "use_exponential_sigmas": False, "use_karras_sigmas": False},
            None,
        )
    },
}  # fmt: skip
"""The recipes of the model cards: scheduler, its configuration, timesteps; guidance is off or the model's input."""
CASES = [
    pytest.param(name, steps, marks=[pytest.mark.thorough] * (steps != max(by_steps)))
    for name, by_steps in RECIPES.items() for steps in by_steps
]  # fmt: skip
"""All, by default with the most steps alone."""


def family_of(name: str) -> Family:
    kind = {"FluxPipeline": "flux-dev", "QwenImagePipeline": "qwen-image", "StableDiffusionPipeline": "sd"}
    return next(family for family in all_families() if family.name == kind.get(PRESETS[name].family, "sdxl"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), CASES)
def test_presets_equal_their_cards_recipes(name: str, steps: int, tmp_path: Path, monkeypatch) -> None:
    family, preset = family_of(name), PRESETS[name]
    base = family.make()
    denoiser = denoiser_of(base)
    form = preset.variants[steps].form or preset.form
    part = "unet" if hasattr(base, "unet") else "transformer"
    file = tmp_path / "student.safetensors"
    if form == "lora":
        lora_of(denoiser, part, file)
    else:
        generator = torch.Generator().manual_seed(3)
        save_file({key: value + 0.05 * torch.randn(value.shape, generator=generator)
                   for key, value in denoiser.state_dict().items()}, file)  # fmt: skip
    cls, changes, timesteps = RECIPES[name][steps]
    scheduler = getattr(diffusers, cls).from_config(base.scheduler.config, clip_sample=False, **changes)
    other = type(base)(**{**family.make().components, "scheduler": scheduler})
    other.set_progress_bar_config(disable=True)
    if form == "lora":
        other.load_lora_weights(str(file.parent), weight_name=file.name)
        other.fuse_lora(lora_scale={"hyper-flux": 0.125}.get(name, 1.0))
    else:
        getattr(other, part).load_state_dict(load_file(file))
    guidance = {"guidance_scale": 3.5} if part == "transformer" else {"guidance_scale": 0}
    guidance = {"true_cfg_scale": 1.0} if name.startswith("qwen") else guidance
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    room = {key: value for key, value in family.stock.items() if key == "max_sequence_length"}
    expected = other(
        family.texts[0], num_inference_steps=steps, generator=torch.Generator().manual_seed(7), output_type="pt",
        **guidance, **size, **room, **({} if timesteps is None else {"timesteps": list(timesteps)}),
        **({"eta": 1.0} if cls == "TCDScheduler" else {}),
    ).images  # fmt: skip
    backbone = Sampler(base).backbone
    for key, value in family.backbone.items():
        monkeypatch.setattr(type(backbone), key, value)
    monkeypatch.setitem(PRESETS, name, dataclasses.replace(preset, build=None))  # tiny models have builds of their own
    methods = make_methods(
        ["dmd2"], {"dmd2": {"student": name, "steps": steps, "weights": str(file)}}, Sampler(base).plugins
    )
    ours = make_run(backbone, [Prompt(family.texts[0], seed=7)], methods=methods, settings=size).search().samples
    assert (ours - expected).abs().max() <= 1e-6
    plain = make_run(backbone, [Prompt(family.texts[0], seed=7)], settings={"steps": 2, **size}).search().samples
    assert not torch.allclose(plain, expected, atol=1e-4)
