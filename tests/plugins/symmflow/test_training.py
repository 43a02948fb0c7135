"""A training that is broken off goes on as if nothing had been."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steer import SteerError
from steer.training import Draw, RunFolder, Watch, fit, start
from steer.training.display import Silent
from steer_symmflow.model import SymmFlowConfig, SymmFlowModel
from steer_symmflow.train.cli import unet_config
from steer_symmflow.train.data import Stored
from steer_symmflow.train.task import FlowTask, Recipe

RECIPE = Recipe(steps=6, batch=2, warmup=2)
LABELS = ("a", "b")


class KilledError(Exception):
    pass


class Dying(Stored):
    """Data that is read ``left`` times."""

    left = 10**6

    def batch(self, rng, count, split="train"):
        if self.left == 0:
            raise KilledError
        self.left -= 1
        return super().batch(rng, count, split)


def data() -> Dying:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    return Dying("classes", LABELS, (), pixels, np.arange(20) % 2)


def run(out: Path, source: Stored, recipe: Recipe = RECIPE, *, resume: bool = False) -> SymmFlowModel:
    torch.manual_seed(0)
    model = SymmFlowModel(
        SymmFlowConfig("classes", LABELS, (8, 8), (), 4.0, patch=2, unet=unet_config((16, 32), 2, (8, 8)))
    )
    run, machine = RunFolder(out, resume=resume), start("no", "cpu")
    run.begin("symmflow", recipe)
    task = FlowTask(model, source, recipe, machine)
    task.sheet = lambda path: {}  # type: ignore[method-assign]
    fit(task, recipe, run, machine, watch=Watch(save_every=2), display=Silent())
    return task.averaged()


def test_a_run_that_was_killed_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", data())
    dying = data()
    dying.left = 5  # one step after the checkpoint of the fourth
    with pytest.raises(KilledError):
        run(tmp_path / "broken", dying)
    with (tmp_path / "broken" / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 1}\n{"step": 6, "lo')
    resumed = run(tmp_path / "broken", data(), resume=True)
    for name, value in whole.unet.state_dict().items():
        assert torch.equal(value, resumed.unet.state_dict()[name]), name
    logged = [json.loads(line)["step"] for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert logged == [6]


def test_a_run_goes_on_by_its_own_recipe_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="holds no run"):
        run(tmp_path, data(), resume=True)
    run(tmp_path, data())
    with pytest.raises(SteerError, match="holds a run already"):
        run(tmp_path, data())
    with pytest.raises(SteerError, match=r"has rate=.*, now it is 0\.5"):
        run(tmp_path, data(), replace(RECIPE, rate=0.5), resume=True)
    run(tmp_path, data(), replace(RECIPE, steps=7), resume=True)


def test_shift_and_late_say_at_which_times_a_flow_is_trained() -> None:
    model = SymmFlowModel(
        SymmFlowConfig("classes", LABELS, (8, 8), (), 4.0, patch=2, unet=unet_config((16, 32), 2, (8, 8)))
    )

    def times(**changes: float) -> torch.Tensor:
        task = FlowTask(model, data(), replace(RECIPE, batch=512, **changes), start("no", "cpu"))
        return task.batch(Draw(0, "symmflow", 1, 0))[1]

    # one time from each of 512 equal parts: quantiles are exact to 1/512
    even, early = times().sort().values, times(shift=3.0).sort().values
    u = torch.linspace(0, 1, 9)[1:-1]
    assert torch.allclose(even[(512 * u).long()], u, atol=0.004)
    assert torch.allclose(early[(512 * u).long()], u / (u + 3 * (1 - u)), atol=0.01)
    assert float((times(late=0.25, shift=3.0) == 1).float().mean()) == pytest.approx(0.25, abs=0.08)
