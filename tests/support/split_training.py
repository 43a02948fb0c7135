"""A small training whose networks are split over processes or whole, and runs of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from steer.models.room import movable
from steer.training import (
    Draw,
    Machine,
    Part,
    RunFolder,
    Task,
    TrainingRecipe,
    Update,
    Watch,
    adamw,
    fit,
    start,
)
from steer.training.display import Silent
from steer.training.sharding import share_of

RECIPE = TrainingRecipe(steps=3, batch=4, rate=0.01, accumulate=2, seed=3, ema=0.9)


class Blocks(nn.Module):
    """A network of blocks whose activations are computed again; some of its weights have fewer rows than processes."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 5)) for _ in range(2))
        self.last = nn.Linear(5, 1)
        nn.init.zeros_(self.last.bias).requires_grad_(False)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        out: Tensor = self.scale * self.last(x)
        return out


class Duel(Task):
    """A student learns from a frozen teacher and against a critic, which it is trained beside."""

    name = "duel"

    def __init__(self, recipe: TrainingRecipe, machine: Machine, stop: int | None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.machine, self.stop = recipe, machine, stop
        self.student, self.critic, self.teacher = (machine.shard(Blocks()) for _ in range(3))
        self.teacher.requires_grad_(False)
        self.parts = {
            "student": Part(self.student, adamw(self.student, recipe.rate, matrices_only=True, fused=True)),
            "critic": Part(self.critic, adamw(self.critic, recipe.rate), averaged=False),
        }

    def updates(self, step: int) -> Iterator[Update]:
        if step == self.stop:
            raise RuntimeError("stopped")
        yield Update("student", self.recipe.rate, lambda part: self.learned(Draw("student", step, part)))
        yield Update("critic", self.recipe.rate, lambda part: self.criticized(Draw("critic", step, part)))

    def learned(self, draw: Draw) -> dict[str, Tensor]:
        x = draw.normal(self.recipe.batch, 5)
        with self.machine.autocast():
            with torch.no_grad():
                wanted = self.teacher(x)
            made = self.student(x)
            (push,) = torch.autograd.grad(self.critic(seen := x * made.detach().requires_grad_()).mean(), seen)
            return {"loss": (made - wanted).square().mean() + 0.1 * (made * (push * x).sum(1, keepdim=True)).mean()}

    def criticized(self, draw: Draw) -> dict[str, Tensor]:
        x = draw.normal(self.recipe.batch, 5)
        with self.machine.autocast():
            with torch.no_grad():
                made = self.student(x)
            return {"loss": (self.critic(x * made) - 1).square().mean() + (self.critic(x) + 1).square().mean()}

    def sheet(self, path: Path) -> dict[str, float]:
        path.touch()
        x = torch.ones(1, 5)
        alone = Blocks()
        alone.load_state_dict(self.parts["student"].whole_average(), strict=False)
        with self.machine.autocast():
            with self.parts["student"].averaged():
                averaged = float(self.student(x))
            return {"averaged": averaged, "alone": float(alone(x)), "last": float(self.student(x))}


def train(out: Path, *, shard: bool, stop: int | None = None, resume: bool = False, **changes: Any) -> Duel:
    """Train to the end, or to an error in a step."""
    recipe = replace(RECIPE, **changes)
    machine = start(recipe.precision, "cpu", shard=shard)
    if not machine.is_main_process:
        time.sleep(0.2)  # a process that is late must not take what the first one began for an older run
    run = RunFolder(out, resume=resume)
    run.begin("duel", recipe)
    task = Duel(recipe, machine, stop)
    try:
        fit(task, recipe, run, machine, watch=Watch(save_every=1, log_every=1), display=Silent())
    except RuntimeError as error:
        if "stopped" not in str(error):
            raise
    run.close()
    return task


def all_kinds(folder: Path) -> None:
    """Train split and whole networks, and resume runs of each as the other. Runs in each process."""
    whole, split = (train(folder / kind, shard=kind == "split") for kind in ("whole", "split"))
    assert movable(whole.student) and not movable(split.student)
    for name, part in split.parts.items():
        full, own = sum(p.numel() for p in part.parameters), sum(share_of(p).numel() for p in part.parameters)
        assert full == sum(p.numel() for p in whole.parts[name].parameters)
        assert 0.35 * full < own < 0.65 * full
        held = [share_of(value) for state in part.optimizer.state.values() for value in state.values() if value.ndim]
        assert sum(value.numel() for value in held) == 2 * own
    average = sum(value.numel() for value in split.parts["student"].average.values())
    assert average < 0.65 * sum(value.numel() for value in whole.parts["student"].average.values())
    for before in ("whole", "split"):
        stopped = train(folder / f"{before} stopped", shard=before == "split", stop=2)
        for after in ("whole", "split"):
            resumed = folder / f"{before}, {after}"
            if stopped.machine.is_main_process:
                shutil.copytree(folder / f"{before} stopped", resumed)
            stopped.machine.wait_for_everyone()
            train(resumed, shard=after == "split", resume=True)
    for kind in ("whole", "split"):
        train(folder / f"{kind} bf16", shard=kind == "split", precision="bf16", steps=1)
