"""Students that are stored as 8-bit differences to their model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import Steer
from support.tiny import tiny_sd
from support.tiny_students import lora_file, unet_file

from steer import ModelOptions, Prompt, Sampler, SteerError
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer_dmd2.differences import SCALE, added, differences

CARD = {"format": 1, "family": "StableDiffusionPipeline", "base": "tiny", "schedules": {"2": [799, 399]}}
CARD |= {"form": "unet", "guidance_scale": 1.0, "training": {}}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The folder of a student with all weights, beside its model in ``model``."""
    pipe, folder = tiny_sd(), tmp_path / "whole"
    pipe.save_pretrained(tmp_path / "model")
    folder.mkdir()
    save_file(torch.load(unet_file(pipe, tmp_path / "unet.bin"), weights_only=True), folder / "student.safetensors")
    (folder / "student.json").write_text(json.dumps(CARD))
    return folder


def images(model: object, student: Path) -> np.ndarray:
    settings = {"methods": ["dmd2"], "options": {"dmd2": {"student": str(student)}}, "particles": 2, "seed": 1}
    result = Sampler(model).generate("a circle", **settings)
    return np.stack([np.asarray(sample.image, dtype=float) for sample in result.items[0].samples])


@pytest.fixture
def small(whole: Path, tmp_path: Path, steer: Steer) -> Path:
    """The same student as differences."""
    done = steer("convert", "dmd2", whole, "-m", tmp_path / "model", "--out", tmp_path / "small")
    assert done.code == 0 and "MB for" in done.out, done.err
    return tmp_path / "small"


@pytest.mark.parametrize("bits", [2, 6, 8])
def test_each_row_is_off_by_at_most_half_a_step_of_its_own(bits: int) -> None:
    draw = torch.Generator().manual_seed(bits)
    base = {"kernel": torch.randn(5, 3, 3, 3, generator=draw), "bias": torch.randn(5, generator=draw)}
    sizes = torch.tensor([1e-7, 1e-3, 0.1, 1.0, 0.0])
    student = {name: value + sizes.view(-1, *[1] * (value.ndim - 1)) * torch.randn(value.shape, generator=draw)
               for name, value in base.items()}  # fmt: skip
    stored = differences(student, base, bits)
    assert stored["kernel"].dtype == torch.int8 and stored["kernel" + SCALE].shape == (5,)
    assert "bias" + SCALE not in stored
    most = 2 ** (bits - 1) - 1
    assert stored["kernel"].abs().amax() <= most
    for row in range(5):
        got, wanted = added(base["kernel"], stored, "kernel")[row], student["kernel"][row]
        step = float((wanted - base["kernel"][row]).abs().max()) / most
        # a half-precision scale has steps of its own: 2^-24 where it is smallest, a thousandth elsewhere
        assert float((got - wanted).abs().max()) <= 0.502 * step + 2**-24 * most + 1e-6
    assert torch.equal(added(base["kernel"], stored, "kernel")[4], base["kernel"][4])
    assert torch.allclose(added(base["bias"], stored, "bias"), student["bias"], atol=2e-3)


@pytest.mark.slow
def test_a_converted_student_draws_the_same_and_starts_a_training(
    small: Path, whole: Path, tmp_path: Path, steer: Steer
) -> None:
    sizes = [(folder / "student.safetensors").stat().st_size for folder in (small, whole)]
    assert sizes[0] < 0.3 * sizes[1]  # fp32 here
    assert json.loads((small / "student.json").read_text())["base"] == "model"  # to whose weights they are added
    own, converted = images(tiny_sd(), whole), images(tiny_sd(), small)
    assert np.abs(own - converted).max() <= 6
    coarse = tmp_path / "coarse"
    steer("convert", "dmd2", whole, "-m", tmp_path / "model", "--out", coarse, "--bits", 2)
    assert np.abs(own - images(tiny_sd(), coarse)).mean() > np.abs(own - converted).mean()
    (tmp_path / "texts.txt").write_text("a circle\na square\n")
    train = ("train", "dmd2", "--teacher", tmp_path / "model", "--data", tmp_path / "texts.txt", "--student-steps", 2)
    train += ("--timesteps", "799,399", "--batch", 2, "--steps", 1, "--gan", 0, "--threads", 1)
    for start in (whole, small):
        assert steer(*train, "--start", start, "--rate", 1e-9, "--out", tmp_path / f"from-{start.name}").code == 0
    ends = [load_file(tmp_path / f"from-{name}" / "student" / "student.safetensors") for name in ("whole", "small")]
    wanted = load_file(whole / "student.safetensors")
    assert all(torch.allclose(end[name].float(), wanted[name], atol=4e-3) for end in ends for name in wanted)


@pytest.mark.slow
def test_differences_are_added_to_a_fine_tune(small: Path, whole: Path, tmp_path: Path) -> None:
    tuned, moved = tiny_sd(), tmp_path / "moved"
    change = {name: 0.02 * torch.ones_like(value) for name, value in tuned.unet.state_dict().items()}
    tuned.unet.load_state_dict({name: value + change[name] for name, value in tuned.unet.state_dict().items()})
    moved.mkdir()
    weights = {name: value + change[name] for name, value in load_file(whole / "student.safetensors").items()}
    save_file(weights, moved / "student.safetensors")
    (moved / "student.json").write_text((whole / "student.json").read_text())
    got, wanted = images(tuned, small), images(tiny_sd(), moved)
    assert np.abs(got - wanted).max() <= 6
    assert np.abs(got - images(tuned, whole)).max() > 6  # which brings all of its weights


@pytest.mark.slow
def test_what_does_not_fit_is_told(small: Path, whole: Path, tmp_path: Path, steer: Steer) -> None:
    def refused(message: str, *arguments: object, out: Path = tmp_path / "out") -> None:
        done = steer("convert", "dmd2", *arguments, "--out", out)
        assert done.code == 2 and message in " ".join(done.err.split()), done.err
        assert not (tmp_path / "out" / "student.json").exists()

    model = ("-m", tmp_path / "model")
    refused("is not a folder; expected one written by", tmp_path / "nowhere", *model)
    refused("holds difference weights, which are small", small, *model)
    refused("--force", whole, *model, out=small)
    before = (whole / "student.safetensors").read_bytes()
    refused("the student itself, which would be lost", whole, *model, "--force", out=whole)
    assert (whole / "student.safetensors").read_bytes() == before
    assert steer("convert", "dmd2", whole, *model, "--out", small, "--force").code == 0
    refused("students of diffusers pipelines only", whole, "-m", "symmflow:masks")
    refused("students of image models only", whole, "-m", "text:shapes")
    low_rank = tmp_path / "low-rank"
    low_rank.mkdir()
    (low_rank / "student.json").write_text(json.dumps(CARD | {"form": "lora"}))
    lora_file(tiny_sd(), low_rank / "student.safetensors")
    refused("holds lora weights, which are small", low_rank, *model)
    broken = load_file(whole / "student.safetensors")
    next(iter(broken.values())).fill_(float("nan"))
    save_file(broken, whole / "student.safetensors")
    refused("is not finite", whole, *model)

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()  # of the user, and no reason to refuse
    (whole / "student.safetensors").write_bytes(before)
    assert steer("convert", "dmd2", whole, *model, "--out", tmp_path / "out").code == 0

    stored = load_file(small / "student.safetensors")
    del stored[next(name for name in stored if name.endswith(SCALE))]
    save_file(stored, small / "student.safetensors")
    with pytest.raises(SteerError, match=f"is for another base: student.safetensors has tensors 1 missing: .*{SCALE}"):
        images(tiny_sd(), small)


@pytest.mark.slow
def test_they_are_added_to_a_base_whose_layers_come_to_the_device_one_by_one(small: Path, tmp_path: Path) -> None:
    low_rank = lora_file(tiny_sd(), tmp_path / "lora.safetensors")
    for student in (small, low_rank):
        pipe = tiny_sd()
        accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
        assert pipe.unet.conv_in.weight.is_meta
        assert np.abs(images(pipe, student) - images(tiny_sd(), student)).max() <= 1


@pytest.mark.slow
def test_they_are_added_to_a_base_with_a_lora_and_in_half_precision(small: Path, whole: Path, tmp_path: Path) -> None:
    lora = lora_file(tiny_sd(), tmp_path / "lora.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # no word that the LoRA has no effect
        sampler = Sampler(tiny_sd(), model_options=ModelOptions(loras=((str(lora), 1.0),)))
        base = {name: value.clone() for name, value in sampler.backbone.pipe.unet.state_dict().items()}
        got = weights_of(sampler, small)
    own, plain = load_file(whole / "student.safetensors"), tiny_sd().unet.state_dict()
    for name in own:
        assert torch.allclose(got[name], own[name] + base[name] - plain[name], atol=2e-3), name
    half = weights_of(Sampler(tiny_sd().to(torch.bfloat16)), small)
    assert all(torch.allclose(half[name].float(), own[name], rtol=2**-7, atol=4e-3) for name in own)


def weights_of(sampler: Sampler, student: Path) -> dict[str, torch.Tensor]:
    methods = make_methods(["dmd2"], {"dmd2": {"student": str(student)}}, sampler.plugins)
    run = make_run(sampler.backbone, [Prompt("a circle")], methods=methods)
    run.load_weights()
    return sampler.backbone.denoisers.read()[-1].state_dict()
