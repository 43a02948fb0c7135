"""``--plugin dmd2``: the shipped students, other methods beside it, gradients, and what it refuses."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import brightness, tiny_sd
from support.tiny_students import lora_file, tiny_sdxl, unet_file

from steer import SteerError
from steer.models.downloads.weights import locate
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer.sampling.sampler import Sampler
from steer_dmd2 import presets
from steer_dmd2.student import WEIGHTS, read_card
from steer_shapes.reward import ShapesReward


@pytest.fixture(scope="module")
def shapes() -> Sampler:
    return Sampler("shapes")


def dmd2(sampler: Sampler, **options):
    return make_methods(["dmd2"], {"dmd2": options}, sampler.plugins)


@pytest.mark.slow  # a trained model draws
@pytest.mark.parametrize("steps", [1, 4])
def test_the_embedded_students_draw_what_was_asked(shapes, steps: int) -> None:
    prompts = [Prompt(f"a {color} {shape}", seed=10 * index) for index, (color, shape) in enumerate(
        (c, s) for c in ("red", "blue", "yellow") for s in ("circle", "square", "star"))]  # fmt: skip
    result = shapes.generate(prompts, methods=["dmd2"], options={"dmd2": {"steps": steps}}, reward="shapes")
    assert result.cost.nfe == steps * len(prompts)
    own = [item.reward for item in result.items]
    assert sum(own) / len(own) > 0.75
    # the images follow their prompts: any other one of the nine fits each of them worse
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in result.images]).permute(0, 3, 1, 2) / 255
    others = ShapesReward()(pixels, [str(prompt) for prompt in prompts[4:] + prompts[:4]])
    assert sum(own) / len(own) > others.mean() + 0.15


@pytest.mark.slow
def test_its_settings_are_in_the_recipe_and_a_contradiction_names_both(shapes) -> None:
    item = shapes.generate("a red circle", methods=["dmd2"], seed=1).items[0]
    settings = item.recipe.settings
    assert (settings["steps"], settings["scheduler"], settings["guidance_scale"]) == (4, "lcm", 1.0)
    assert len(settings["timesteps"]) == 4 and settings["denoiser"] == "dmd2 shapes 4"
    file = presets.EMBEDDED / "shapes-4step" / WEIGHTS
    assert item.recipe.weights["dmd2 shapes 4"] == sha256(file.read_bytes()).hexdigest()
    with pytest.raises(SteerError, match="dmd2 needs steps=4, but you asked for steps=20"):
        shapes.generate("a red circle", methods=["dmd2"], steps=20)
    with pytest.raises(SteerError, match="dmd2 needs guidance_scale"):
        shapes.generate("a red circle", methods=["dmd2"], guidance_scale=5.0)
    with pytest.raises(SteerError, match="unknown denoiser 'nothing'"):
        shapes.generate("a red circle", denoiser="nothing")


@pytest.mark.slow  # a trained model draws
@pytest.mark.parametrize("order", [["dmd2", "fk"], ["fk", "dmd2"]])
def test_fk_steers_the_four_step_student_and_its_copies_part(shapes, order) -> None:
    methods = make_methods(order, {"fk": {"at": (0, 1, 2), "lambda": 1000.0}}, shapes.plugins)
    prompts = [Prompt("a red circle", seed=3)]
    reward = make_reward([brightness], {}, shapes.plugins, torch.device("cpu"))
    state = make_run(shapes.backbone, prompts, methods=methods, settings={"particles": 4}, reward=reward).search()
    assert len(set(state.ancestors.tolist())) < 4
    x = state.x.flatten(1)
    assert torch.pdist(x).min() > 1e-2


@pytest.mark.slow
def test_the_one_step_student_is_differentiable_by_its_noise(shapes) -> None:
    run = make_run(shapes.backbone, [Prompt("a red circle", seed=3)], methods=dmd2(shapes, steps=1))
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    state = run.sample(noise=noise, grad=True)
    assert state.samples.requires_grad
    (gradient,) = torch.autograd.grad((weights * state.x).mean(), noise)
    small = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        ahead, behind = ((weights * run.sample(noise=noise + sign * small).x).mean() for sign in (1, -1))
    assert float(ahead - behind) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "message"), [
    ({"steps": 3}, "was not made for dmd2.steps=3; it was made for 1 or 4"),
    ({"student": "sdxl"}, "is for a StableDiffusionXLPipeline, but the model is a StableDiffusionPipeline"),
    ({"student": "shape"}, "unknown student 'shape' — did you mean 'shapes'"),
    ({"student": "./nowhere/at/all"}, "does not exist"),
    ({"student": "someone/student"}, "needs student.json of someone/student .*steer download dmd2:someone/student"),
    ({"weights": "x.bin", "student": "someone/student"}, "dmd2.weights is for known students"),
    ({"timesteps": (5,)}, "those of 'shapes' are known"),
])  # fmt: skip
def test_bad_options_are_told_in_one_line(shapes, options, message: str) -> None:
    with pytest.raises(SteerError, match=message) as error:
        shapes.generate("a red circle", methods=["dmd2"], options={"dmd2": options})
    assert "\n" not in str(error.value)


@pytest.mark.slow  # loads seven students
def test_students_for_another_base_and_damaged_ones(shapes, tmp_path: Path) -> None:
    def refused(student: Path, message: str, sampler: Sampler = shapes) -> None:
        with pytest.raises(SteerError, match=message):
            sampler.generate("a circle", methods=["dmd2"], options={"dmd2": {"student": str(student), "steps": 1}})

    sdxl = tiny_sdxl()
    refused(unet_file(sdxl, tmp_path / "sdxl.bin"), "is for another base: sdxl.bin has")
    refused(lora_file(sdxl, tmp_path / "lora.safetensors"), "is for another base: lora.safetensors")
    (tmp_path / "cut.bin").write_bytes((tmp_path / "sdxl.bin").read_bytes()[:5000])
    refused(tmp_path / "cut.bin", "cannot be read")
    torch.save({"unet": print}, tmp_path / "code.bin")
    refused(tmp_path / "code.bin", "no pickle of tensors alone")
    folder = tmp_path / "folder"
    folder.mkdir()
    refused(folder, "has no student.json")
    (folder / "student.json").write_text(json.dumps({"format": 1, "family": "x"}))
    refused(folder, "student.json is damaged")
    # a LoRA of which only a part is in the model: what is left over would be dropped without a word
    partly = load_file(lora_file(shapes.backbone.pipe, tmp_path / "partly.safetensors"))
    layer = "unet.down_blocks.7.attentions.0.transformer_blocks.0.attn1.to_q"
    partly |= {f"{layer}.lora_A.weight": torch.ones(4, 8), f"{layer}.lora_B.weight": torch.ones(8, 4)}
    save_file(partly, tmp_path / "partly.safetensors")
    refused(tmp_path / "partly.safetensors", r"partly\.safetensors: 1 of its .* layers are not in the model")


CARD = {"format": 1, "family": "StableDiffusionPipeline", "base": "x", "schedules": {"1": [399]}, "form": "unet",
        "guidance_scale": 1.0, "training": {}}  # fmt: skip


@pytest.mark.parametrize("changes", [
    {"schedules": {}}, {"schedules": {"0": []}}, {"schedules": {"2": "99"}}, {"schedules": {"2": [5, 9]}},
    {"schedules": {"1": [399.5]}}, {"schedules": {"1": [-1]}}, {"schedules": {"x": [399]}}, {"schedules": [399]},
    {"form": "other"}, {"form": 3}, {"family": ["a"]}, {"guidance_scale": "high"}, {"guidance_scale": 10**400},
    {"training": 4}, {"prediction": "sample"},
])  # fmt: skip
def test_cards_with_values_of_wrong_types_are_damaged_and_say_what(tmp_path: Path, changes) -> None:
    (tmp_path / "student.json").write_text(json.dumps(CARD))
    assert read_card(tmp_path).schedules == {1: (399,)}
    (tmp_path / "student.json").write_text(json.dumps(CARD | changes))
    with pytest.raises(SteerError, match=r"student\.json is damaged \(") as error:
        read_card(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 260


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, "", '"x"', "{", '{"format": 2}'])
def test_cards_that_are_no_object_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "student.json").write_text(text)
    with pytest.raises(SteerError, match=r"student\.json(: format '2'| cannot be read as JSON| holds a JSON)"):
        read_card(tmp_path)


def test_students_of_another_prediction_are_refused(tmp_path: Path) -> None:
    config = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024}
    assert presets.fitting("StableDiffusionPipeline", config, "epsilon") == ["sd-turbo"]
    with pytest.raises(
        SteerError, match="'sd-turbo' is for models with epsilon, but the model is one with v_prediction"
    ):
        presets.check_fits("sd-turbo", "StableDiffusionPipeline", config, "v_prediction")
    (tmp_path / "student.json").write_text(json.dumps(CARD | {"prediction": "epsilon"}))
    with pytest.raises(SteerError, match=r"made from a model with epsilon .* this model has v_prediction"):
        Sampler(tiny_sd("v_prediction")).generate("a circle", methods=dmd2_of(tmp_path))


def dmd2_of(student: Path):
    return make_methods(["dmd2"], {"dmd2": {"student": str(student), "steps": 1}}, manager())


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_loaded_anew(tmp_path: Path) -> None:
    sampler = Sampler(tiny_sd())
    file = unet_file(sampler.backbone.pipe, tmp_path / "student.bin")

    def pixels() -> np.ndarray:
        return np.asarray(sampler.generate("a circle", methods=dmd2_of(file), seed=1).images[0])

    first = pixels()
    assert (pixels() == first).all()
    state = {name: value * 0.5 for name, value in torch.load(file, weights_only=True).items()}
    torch.save(state, file)
    assert (pixels() != first).any()


@pytest.mark.slow
def test_a_students_own_timesteps_raise_no_doubts(shapes, caplog) -> None:
    import diffusers

    before = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_warning()
    diffusers.logging.enable_propagation()
    try:
        shapes.generate("a red circle", methods=["dmd2"])
    finally:
        diffusers.logging.disable_propagation()
        diffusers.logging.set_verbosity(before)
    assert "timestep schedule" not in caplog.text


def test_timesteps_of_a_bare_file_must_fall(tmp_path: Path) -> None:
    sampler = Sampler(tiny_sd())
    file = unet_file(sampler.backbone.pipe, tmp_path / "student.bin")
    for times in ((499, 999), (499, 499), (499, 0)):
        with pytest.raises(SteerError, match="expected distinct timesteps above 0, highest first"):
            sampler.generate("a circle", methods=["dmd2"], options={"dmd2": {"student": str(file), "timesteps": times}})


def test_no_student_is_known_for_a_foreign_model_and_the_offline_message_names_the_file() -> None:
    with pytest.raises(SteerError, match="knows no student for a StableDiffusionPipeline"):
        Sampler(tiny_sd()).generate("a circle", methods=["dmd2"])
    entry = manager().registry.get("method", "dmd2")
    assert {needed.file for needed in entry.weights()} >= {"dmd2_sdxl_4step_unet_fp16.bin"}
    with pytest.raises(SteerError, match=r"dmd2_sdxl_1step_unet_fp16\.bin of tianweiy/DMD2 \(5\.1 GB\)"):
        locate(entry.weights("sdxl")[0], owner="dmd2:sdxl")
