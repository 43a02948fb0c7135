"""Students that are stored as 8-bit differences to their model."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import Steer
from support.tiny import tiny_sd
from support.tiny_students import lora_file, unet_file

from steer import Sampler, SteerError
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


def test_a_converted_student_draws_the_same_and_starts_a_training(whole: Path, tmp_path: Path, steer: Steer) -> None:
    done = steer("convert", "dmd2", whole, "-m", tmp_path / "model", "--out", tmp_path / "small")
    assert done.code == 0 and "MB for" in done.out
    sizes = [(folder / "student.safetensors").stat().st_size for folder in (tmp_path / "small", whole)]
    assert sizes[0] < 0.3 * sizes[1]  # fp32 here
    own, small = images(tiny_sd(), whole), images(tiny_sd(), tmp_path / "small")
    assert np.abs(own - small).max() <= 6
    coarse = tmp_path / "coarse"
    steer("convert", "dmd2", whole, "-m", tmp_path / "model", "--out", coarse, "--bits", 2)
    assert np.abs(own - images(tiny_sd(), coarse)).mean() > np.abs(own - small).mean()
    (tmp_path / "texts.txt").write_text("a circle\na square\n")
    train = ("train", "dmd2", "--teacher", tmp_path / "model", "--data", tmp_path / "texts.txt", "--student-steps", 2)
    train += ("--timesteps", "799,399", "--batch", 2, "--steps", 1, "--gan", 0, "--threads", 1)
    for start in (whole, tmp_path / "small"):
        assert steer(*train, "--start", start, "--rate", 1e-9, "--out", tmp_path / f"from-{start.name}").code == 0
    ends = [load_file(tmp_path / f"from-{name}" / "student" / "student.safetensors") for name in ("whole", "small")]
    wanted = load_file(whole / "student.safetensors")
    assert all(torch.allclose(end[name].float(), wanted[name], atol=4e-3) for end in ends for name in wanted)


def test_differences_are_added_to_a_fine_tune(whole: Path, tmp_path: Path, steer: Steer) -> None:
    steer("convert", "dmd2", whole, "-m", tmp_path / "model", "--out", tmp_path / "small")
    tuned, moved = tiny_sd(), tmp_path / "moved"
    change = {name: 0.02 * torch.ones_like(value) for name, value in tuned.unet.state_dict().items()}
    tuned.unet.load_state_dict({name: value + change[name] for name, value in tuned.unet.state_dict().items()})
    moved.mkdir()
    weights = {name: value + change[name] for name, value in load_file(whole / "student.safetensors").items()}
    save_file(weights, moved / "student.safetensors")
    (moved / "student.json").write_text((whole / "student.json").read_text())
    got, wanted = images(tuned, tmp_path / "small"), images(tiny_sd(), moved)
    assert np.abs(got - wanted).max() <= 6
    assert np.abs(got - images(tuned, whole)).max() > 6  # which brings all of its weights


def test_what_does_not_fit_is_told(whole: Path, tmp_path: Path, steer: Steer) -> None:
    def refused(message: str, *arguments: object) -> None:
        done = steer("convert", "dmd2", *arguments, "--out", tmp_path / "out")
        assert done.code == 2 and message in " ".join(done.err.split()), done.err
        assert not (tmp_path / "out" / "student.json").exists()

    model = ("-m", tmp_path / "model")
    refused("is not a folder; expected one written by", tmp_path / "nowhere", *model)
    steer("convert", "dmd2", whole, *model, "--out", tmp_path / "small")
    again = steer("convert", "dmd2", whole, *model, "--out", tmp_path / "small")
    assert again.code == 2 and "--force" in again.err
    assert steer("convert", "dmd2", whole, *model, "--out", tmp_path / "small", "--force").code == 0
    refused("holds difference weights, which are small", tmp_path / "small", *model)
    low_rank = tmp_path / "low-rank"
    low_rank.mkdir()
    (low_rank / "student.json").write_text(json.dumps(CARD | {"form": "lora"}))
    lora_file(tiny_sd(), low_rank / "student.safetensors")
    refused("holds lora weights, which are small", low_rank, *model)

    small = tmp_path / "small" / "student.safetensors"
    stored = load_file(small)
    del stored[next(name for name in stored if name.endswith(SCALE))]
    save_file(stored, small)
    with pytest.raises(SteerError, match=f"is for another base: student.safetensors has tensors 1 missing: .*{SCALE}"):
        images(tiny_sd(), tmp_path / "small")


def test_they_need_the_weights_of_the_model_in_memory(whole: Path, tmp_path: Path, steer: Steer) -> None:
    steer("convert", "dmd2", whole, "-m", tmp_path / "model", "--out", tmp_path / "small")
    pipe = copy.deepcopy(tiny_sd())
    accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
    with pytest.raises(SteerError, match="a student of differences needs the model's weights in memory"):
        images(pipe, tmp_path / "small")
