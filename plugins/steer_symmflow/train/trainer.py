"""The training loop: seeded by step, resumable, on one device or many (accelerate)."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from steer import SteerError
from steer.plugin import message_of, write_atomic
from steer.training import (
    begun_average,
    check_begins,
    check_finite,
    check_same,
    mean_over_processes,
    move_average,
    read_checkpoint,
    rows_until,
    save_checkpoint,
    warmup_cosine,
)
from steer_symmflow import flow, infer
from steer_symmflow.model import SymmFlowModel
from steer_symmflow.train.data import Labelled, to_pixels

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"

FREE = ("steps", "warmup", "precision", "save_every", "sheet_every")
"""Fields of the recipe that may differ when a run goes on: how long, on which device, what is kept of it."""

Sheet = Callable[[SymmFlowModel, Path], dict[str, float]]
"""Draws what the averaged model does into a PNG, and returns measurements for the log."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: optimizer steps.
        batch: images a step and process.
        rate: peak learning rate of AdamW; warm-up, then a cosine down to a hundredth.
        image_weight: w of the loss.
        late: share of the times t that are drawn at 1 exactly, where inference begins; the others are uniform.
        ema: decay of the averaged weights.
        precision: accelerate's mixed precision, ``"no"``, ``"bf16"`` or ``"fp16"``.
        accumulate: batches whose gradients make one step.
    """

    steps: int
    batch: int = 32
    rate: float = 1e-3
    warmup: int = 100
    image_weight: float = 0.5
    late: float = 0.0
    weight_decay: float = 0.01
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0
    precision: str = "bf16"
    accumulate: int = 1
    save_every: int = 100
    sheet_every: int = 500


def generators(recipe: Recipe, step: int, part: int) -> tuple[np.random.Generator, torch.Generator]:
    """Return a step's generators for data and for noise; a resumed run draws what an unbroken one would."""
    key = [recipe.seed, zlib.crc32(b"symmflow"), step, part]
    noise = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    return np.random.default_rng(key), noise


def batch_of(
    model: SymmFlowModel,
    data: Labelled,
    recipe: Recipe,
    rng: np.random.Generator,
    noise: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return z_t, t and the velocity wanted there, of a fresh batch."""
    images, labels = data.batch(rng, recipe.batch)
    pixels = to_pixels(images).to(device)
    shape = pixels.shape if model.config.kind == "masks" else (len(pixels), *model.half_shape)
    with torch.no_grad():
        x = model.encode(pixels)
        m = infer.half_of(model, torch.from_numpy(labels).to(device), torch.rand(shape, generator=noise).to(device))
    noise_x, noise_m = (torch.randn(x.shape, generator=noise).to(device) for _ in range(2))
    # one time from each of N equal parts varies less than N independent ones
    t = (torch.arange(recipe.batch) + torch.rand(recipe.batch, generator=noise)) / recipe.batch
    t = torch.where(torch.rand(recipe.batch, generator=noise) < recipe.late, 1.0, t)
    t = t.to(device)
    return flow.interpolate(x, m, noise_x, noise_m, t), t, flow.target(x, m, noise_x, noise_m)


def train(
    model: SymmFlowModel, data: Labelled, recipe: Recipe, out: Path, *, resume: bool, sheet: Sheet
) -> SymmFlowModel:
    """Train a model and return it with its averaged weights.

    Writes ``checkpoint.pt`` (all that a resumed run needs), ``log.jsonl`` and sample sheets into ``out``.

    Raises:
        SteerError: if there is a run in ``out`` already and it was not asked to resume, none or another and it was;
            if it diverges.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / CHECKPOINT
    check_begins(checkpoint, resume=resume)
    accelerator = Accelerator(mixed_precision=recipe.precision, gradient_accumulation_steps=recipe.accumulate)
    parameters = [p for p in model.unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    average = begun_average(model.unet)
    first, seconds = 0, 0.0
    if resume:
        state = read_checkpoint(checkpoint, ("unet", "optimizer", "average", "step", "seconds"))
        if "recipe" in state:  # older ones do not say
            check_same(json.loads(state["recipe"]), asdict(recipe), out, but=FREE)
        try:
            model.unet.load_state_dict(state["unet"])
        except RuntimeError as error:
            raise SteerError(f"{checkpoint} is of another model: {message_of(error, 120)}") from None
        optimizer.load_state_dict(state["optimizer"])
        average, first, seconds = state["average"], state["step"], state["seconds"]
    log = out / LOG
    if accelerator.is_main_process and log.is_file():
        write_atomic(log, rows_until(log.read_text(encoding="utf-8", errors="replace"), first).encode())
    network, optimizer = accelerator.prepare(model, optimizer)
    bare: SymmFlowModel = accelerator.unwrap_model(network)
    started = time.monotonic() - seconds

    def save(step: int) -> None:
        if not accelerator.is_main_process:
            return
        state = {"unet": bare.unet.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step,
                 "seconds": time.monotonic() - started, "recipe": json.dumps(asdict(recipe))}  # fmt: skip
        save_checkpoint(state, checkpoint)

    def note(**values: object) -> None:
        if accelerator.is_main_process:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    columns = (TextColumn("symmflow"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not accelerator.is_main_process) as progress:
        task = progress.add_task("train", total=recipe.steps, completed=first, loss=math.nan)
        for step in range(first, recipe.steps):
            network.train()
            rate = warmup_cosine(step, steps=recipe.steps, warmup=recipe.warmup, peak=recipe.rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sums: dict[str, float] = {"loss": 0.0, "image": 0.0, "semantics": 0.0}
            for part in range(recipe.accumulate):
                rng, noise = generators(recipe, step, part * accelerator.num_processes + accelerator.process_index)
                z, t, wanted = batch_of(bare, data, recipe, rng, noise, accelerator.device)
                with accelerator.accumulate(network):
                    with accelerator.autocast():
                        velocity = network(z, t)
                    loss, image, semantic = flow.loss(velocity.float(), wanted, recipe.image_weight)
                    check_finite(loss, step)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(parameters, recipe.clip)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                for name, value in (("loss", loss), ("image", image), ("semantics", semantic)):
                    sums[name] += float(value.detach()) / recipe.accumulate
            sums = mean_over_processes(accelerator, sums)
            move_average(average, bare.unet, step, recipe.ema)
            done = step + 1
            progress.update(task, completed=done, loss=sums["loss"])
            if done % 20 == 0:
                note(step=done, seconds=round(time.monotonic() - started, 1), rate=rate, **sums)
            if done % recipe.save_every == 0 or done == recipe.steps:
                save(done)
            if (done % recipe.sheet_every == 0 or done == recipe.steps) and accelerator.is_main_process:
                measured = sheet(averaged(bare, average), out / f"sheet-{done:06d}.png")
                note(step=done, **measured)
    return averaged(bare, average)


def averaged(model: SymmFlowModel, average: dict[str, Tensor]) -> SymmFlowModel:
    """Return a copy of a model with averaged weights, in inference mode."""
    copy = SymmFlowModel(model.config)
    copy.unet.load_state_dict(average)
    if hasattr(model, "context"):
        copy.context.data.copy_(model.context.data.cpu())
    copy.vae = model.vae
    device: Any = next(model.parameters()).device
    return copy.to(device).eval().requires_grad_(False)
