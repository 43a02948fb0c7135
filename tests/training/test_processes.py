"""Trainings on two processes do what one process does that accumulates two batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import processes
from support.tiny import tiny_sd

UNSTEADY = {"seconds", "seconds_a_step", "phase", "head_right", "told_apart", "accuracy_1", "accuracy_5"}
"""Times, and what jumps when one sample changes sides."""


def losses(log: Path) -> list[dict[str, float]]:
    """Return a log's rows."""
    rows = [json.loads(row) for row in log.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in UNSTEADY} for row in rows]


def captioned(place: Path) -> list[object]:
    """Return the arguments of a short distillation of a tiny teacher, all phases in it."""
    tiny_sd().save_pretrained(place / "teacher")
    (place / "images").mkdir()
    for index, caption in enumerate(("a red circle", "a blue square")):
        Image.new("RGB", (16, 16), (80 * index, 40, 200)).save(place / "images" / f"{index}.png")
        (place / "images" / f"{index}.txt").write_text(caption)
    return ["dmd2", "--teacher", "teacher", "--data", "images", "--student-steps", 2, "--timesteps", "999,499",
            "--guidance", 3, "--steps", 1, "--ratio", 1, "--batch", 2, "--warmup", 1, "--pairs", 2, "--pair-steps", 2,
            "--critic-warmup", 1, "--pixel-gan", 1, "--log-every", 1, "--device", "cpu"]  # fmt: skip


def classed(place: Path) -> list[object]:
    """Return the arguments of a short training of a tiny flow."""
    rng = np.random.default_rng(0)
    for index in range(8):
        folder = place / "images" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return ["symmflow", "--data", "images", "--widths", "16,32", "--batch", 2, "--steps", 20, "--precision", "no"]


@pytest.mark.parametrize("made", [captioned, pytest.param(classed, marks=pytest.mark.thorough)])
def test_two_processes_take_the_steps_of_one_that_accumulates(tmp_path: Path, made) -> None:
    arguments = ["train", *made(tmp_path)]
    processes.launched(tmp_path, *arguments, "--out", "two")
    processes.finished(tmp_path, *arguments, "--accumulate", 2, "--out", "one")
    two, one = (losses(tmp_path / name / "log.jsonl") for name in ("two", "one"))
    assert [row.keys() for row in two] == [row.keys() for row in one] and two[0]
    # sums in another order, which Adam's first steps magnify where a gradient is next to nothing
    for row, other in zip(two, one, strict=True):
        assert row == pytest.approx(other, rel=0.02, abs=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("made", [captioned, classed])
def test_networks_that_are_split_over_processes_learn_what_whole_ones_do(tmp_path: Path, made) -> None:
    arguments = ["train", *made(tmp_path)]
    for out, more in (("whole", ()), ("split", ("--shard",))):
        processes.launched(tmp_path, *arguments, "--out", out, *more)
    whole, split = (losses(tmp_path / name / "log.jsonl") for name in ("whole", "split"))
    assert len(whole) == len(split) > 1
    for row, other in zip(split, whole, strict=True):
        assert row == pytest.approx(other, rel=0.02, abs=1e-5)
    (exported,) = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").glob("*/*.safetensors")} - {
        Path("pairs/pairs-000000.safetensors")
    }
    one, two = (load_file(tmp_path / name / exported) for name in ("whole", "split"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], atol=4e-3), name
    sheets = [sorted(path.name for path in (tmp_path / name / "sheets").iterdir()) for name in ("whole", "split")]
    assert sheets[0] == sheets[1] != []


@pytest.mark.slow  # trains
def test_of_two_trainings_in_one_folder_one_goes_on(tmp_path: Path) -> None:
    arguments = ["train", *classed(tmp_path), "--out", "run"]
    running = [processes.start(arguments, tmp_path, f"{number}.txt") for number in range(2)]
    for one in running:
        one.join(timeout=300)
    assert sorted(one.exitcode or 0 for one in running) == [0, 2]
    (refused,) = [number for number, one in enumerate(running) if one.exitcode]
    told = (tmp_path / f"{refused}.txt").read_text().splitlines()[-1]
    assert "run is in use by process" in told or "run holds a run already; resume it with --resume" in told
    steps = [row["step"] for row in losses(tmp_path / "run" / "log.jsonl")]
    assert steps == [20, 20]  # its losses and what it measured
