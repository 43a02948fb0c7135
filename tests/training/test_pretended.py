"""Trainings on a pretended device: nothing mixes devices, and a step waits for the device once per update.

The device is Apple's: it keeps the rules of CUDA, and has no float64 besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from support.pretended import STRICT, Traffic, pretended
from support.tiny import tiny_sd

from steer.models import load
from steer.registry.plugins import manager
from steer.training import RunFolder, Task, TrainingRecipe, Watch, fit, loop, start
from steer.training import machine as machines
from steer.training.display import Silent
from steer_dmd2.train import session
from steer_dmd2.train.recipe import Recipe as DMD2Recipe
from steer_dmd2.train.task import DMD2Task
from steer_shapes.train import stages, t2i
from steer_shapes.train.stage import Recipe as StageRecipe
from steer_symmflow.model import SymmFlowConfig, SymmFlowModel
from steer_symmflow.train.cli import unet_config
from steer_symmflow.train.data import Stored
from steer_symmflow.train.task import FlowTask, Recipe
from steer_text.train import task as text

WATCH = Watch(save_every=100, sheet_every=3, log_every=1)


class Counting(Silent):
    """Notes what each step waits for and copies to the device."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic, self.counts = traffic, [traffic.counts]

    def show(self, done: float, total: float | None = None, *, note: str | None = None) -> None:
        self.counts.append(self.traffic.counts)

    def most(self, step: int, *, waits: int, copies: int) -> bool:
        before, after = self.counts[step : step + 2]
        return after[0] - before[0] <= waits and after[1] - before[1] <= copies


@pytest.fixture(autouse=True)
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (load, machines):
        monkeypatch.setattr(module, "pick_device", lambda name: torch.device(name))


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    with pretended(STRICT) as counted:
        yield counted


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no checkpoint, for which every weight is waited for."""
    monkeypatch.setattr(loop, "_save", lambda *_: None)


def trained(task: Task, recipe: TrainingRecipe, machine: Accelerator, folder: Path, traffic: Traffic) -> Counting:
    assert {p.device.type for part in task.parts.values() for p in part.parameters} == {STRICT}
    run, display = RunFolder(folder, resume=False), Counting(traffic)
    run.begin(task.name, recipe)
    fit(task, recipe, run, machine, watch=WATCH, display=display)
    return display


@pytest.mark.slow
def test_symmflow_trains_on_the_device(traffic: Traffic, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("steer_symmflow.train.task.MEASURED", 2)
    monkeypatch.setattr("steer_symmflow.train.task.SHOWN", 2)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    data = Stored("classes", ("a", "b"), (), pixels, np.arange(4) % 2)
    unet = unet_config((16, 32), 2, (8, 8))
    model = SymmFlowModel(SymmFlowConfig("classes", ("a", "b"), (8, 8), (), 4.0, patch=2, unet=unet))
    recipe, machine = Recipe(steps=3, batch=2, warmup=1), start("no", STRICT)
    counted = trained(FlowTask(model, data, recipe, machine), recipe, machine, tmp_path / "run", traffic)
    # images, labels, the noises, the times; a mean and its spread
    assert counted.most(1, waits=1, copies=7), (traffic.syncs, traffic.uploads)


@pytest.mark.slow
def test_text_trains_on_the_device(traffic: Traffic, unsaved: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(text, "VOCABULARY_DRAWS", 2000)
    recipe = text.Recipe(data=("shapes-captions",), steps=2, batch=2, width=32, layers=1)
    machine = start("no", STRICT)
    counted = trained(text.TextTask(recipe, machine), recipe, machine, tmp_path / "run", traffic)
    assert counted.most(1, waits=1, copies=3), (traffic.syncs, traffic.uploads)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch", "waits"),
    [("autoencoder", 2, 1), ("t2i", 2, 2), ("preview", 2, 1), ("clip", 4, 5), ("detector", 2, 3)],
)
def test_a_stage_of_the_shapes_trains_on_the_device(
    traffic: Traffic, unsaved: None, name: str, batch: int, waits: int, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(t2i, "SCENES", 4)
    recipe, machine = StageRecipe(steps=2, batch=batch, rate=1e-3), start("no", STRICT)
    stage = stages.STAGES[name]
    monkeypatch.setattr(stage, "sheet", lambda self, path: {})
    vae = stages.load_autoencoder(tmp_path, 0, shipped=True).to(machine.device)
    task = stage(recipe, machine, vae, tmp_path)
    counted = trained(task, recipe, machine, tmp_path / "run", traffic)
    assert counted.most(1, waits=waits, copies=11), (traffic.syncs, traffic.uploads)


@pytest.mark.slow
def test_dmd2_trains_on_the_device(traffic: Traffic, unsaved: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(DMD2Task, "sheet", lambda self, path: {})
    tiny_sd().save_pretrained(tmp_path / "teacher")
    (tmp_path / "images").mkdir()
    for index in range(2):
        Image.new("RGB", (16, 16), (80 * index, 40, 200)).save(tmp_path / "images" / f"{index}.png")
        (tmp_path / "images" / f"{index}.txt").write_text("a red circle", encoding="utf-8")
    recipe = DMD2Recipe(
        teacher=str(tmp_path / "teacher"), data=str(tmp_path / "images"), timesteps=(999, 499), guidance_scale=3.0,
        steps=1, ratio=1, batch=2, pairs=2, pair_steps=1, critic_warmup=0, warmup=1,
    )  # fmt: skip
    counted = Counting(traffic)
    student = session.train(
        recipe, tmp_path / "out", manager(), watch=WATCH, device=STRICT, display=counted, resume=False
    )
    assert (student / "student.json").is_file()
    assert counted.most(1, waits=2, copies=20), (traffic.syncs, traffic.uploads)
