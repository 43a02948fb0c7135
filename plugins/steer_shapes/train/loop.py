"""One loop for every stage: seeded, resumable, logged.

All randomness of a step is drawn from generators keyed by (seed, stage, step), so a run that is
interrupted and resumed sees the same data and the same noise as one that is not.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from steer.training import (
    begun_average,
    check_begins,
    check_finite,
    check_same,
    move_average,
    read_checkpoint,
    rows_until,
    save_checkpoint,
    warmup_cosine,
    write_whole,
)

PARTS = ("modules", "optimizer", "ema", "step", "seed", "seconds")
"""What a checkpoint holds."""


class Stage(Protocol):
    """What the loop needs of a stage."""

    name: str
    modules: nn.ModuleDict
    """Everything that is trained."""

    def loss(self, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        """Losses and metrics of one step on fresh data; ``"loss"`` is minimized."""

    def sheet(self, modules: nn.ModuleDict, path: Path) -> dict[str, float]:
        """Measure the given (averaged) modules for the log; draw a sheet if they make images."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a stage trains."""

    steps: int
    rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.999
    clip: float = 1.0
    save_every: int = 250
    sheet_every: int = 500


def generators(seed: int, stage: str, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The generators of one step: for data, and for noise."""
    key = [seed, zlib.crc32(stage.encode()), step]
    noise = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    return np.random.default_rng(key), noise


def load_average(path: Path, modules: nn.ModuleDict) -> nn.ModuleDict:
    """Load the averaged weights of a checkpoint into ``modules`` and put them to eval mode."""
    modules.load_state_dict(read_checkpoint(path, PARTS)["ema"])
    return modules.eval()


def train(
    stage: Stage,
    recipe: Recipe,
    out: Path,
    *,
    seed: int,
    resume: bool,
    make_copy: Callable[[], Any],
) -> Path:
    """Run a stage to its end and return its last checkpoint, ``out/<stage>.pt``.

    ``make_copy`` builds the stage's modules once more; the average is tried out in them. With ``resume``, a stage that
    has no checkpoint yet begins.

    Raises:
        SteerError: if there is one and it was not asked to resume, or one of another seed; if it diverges.
    """
    checkpoint = out / f"{stage.name}.pt"
    log = out / f"{stage.name}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    modules = stage.modules
    parameters = [p for p in modules.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.99), fused=True)
    average = begun_average(modules)
    first, seconds = 0, 0.0
    check_begins(checkpoint, resume=resume and checkpoint.exists())
    if checkpoint.exists():
        state = read_checkpoint(checkpoint, PARTS)
        check_same({"seed": state["seed"]}, {"seed": seed}, out)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        average = state["ema"]
        first, seconds = state["step"], state["seconds"]
        if log.is_file():
            write_whole(log, lambda path: path.write_text(rows_until(log.read_text(), first)))
    else:
        log.unlink(missing_ok=True)

    def save(step: int, spent: float) -> None:
        state = {
            "modules": modules.state_dict(),
            "optimizer": optimizer.state_dict(),
            "ema": average,
            "step": step,
            "seed": seed,
            "seconds": spent,
        }
        save_checkpoint(state, checkpoint)

    def note(**values: object) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    started = time.monotonic() - seconds
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(stage.name, total=recipe.steps, completed=first, loss=math.nan)
        for step in range(first, recipe.steps):
            modules.train()
            rate = warmup_cosine(step, steps=recipe.steps, warmup=recipe.warmup, peak=recipe.rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = stage.loss(*generators(seed, stage.name, step))
            check_finite(losses["loss"], step, f"begin {stage.name} anew in another --out with another --seed")
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            move_average(average, modules, step, recipe.ema)
            done = step + 1
            values = {name: float(value.detach()) for name, value in losses.items()}
            progress.update(task, completed=done, loss=values["loss"])
            if done % 20 == 0:
                spent = time.monotonic() - started
                note(step=done, seconds=round(spent, 1), rate=rate, **values)
            if done % recipe.save_every == 0 or done == recipe.steps:
                save(done, time.monotonic() - started)
            if done % recipe.sheet_every == 0 or done == recipe.steps:
                copy = make_copy()
                copy.load_state_dict(average)
                note(step=done, **stage.sheet(copy.eval(), out / f"{stage.name}-{done:05d}.png"))
    return checkpoint
