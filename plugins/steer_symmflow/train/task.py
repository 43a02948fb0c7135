"""Training of a symmetric flow: its recipe, its losses, and the quality of its averaged weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from steer.training import Draw, Machine, Part, Task, TrainingRecipe, Update, adamw, warmup_cosine
from steer_symmflow import flow, infer
from steer_symmflow.model import SymmFlowModel
from steer_symmflow.train.data import Labeled, Stored, to_pixels
from steer_symmflow.train.latents import Latents
from steer_symmflow.train.sheet import sheet_of

MEASURED, SHOWN = 64, 16
"""Held-out scenes to measure, and how many of them a sheet shows."""


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingRecipe):
    """How a flow is trained.

    Attributes:
        warmup: steps of the linear warm-up before the cosine.
        image_weight: w of the loss.
        late: share of times t that are exactly 1, where inference begins.
        shift: of the other times, and of the steps in which the model draws, see :func:`steer_symmflow.flow.grid`.
        weight_decay: of all weights.
    """

    free: ClassVar[tuple[str, ...]] = (*TrainingRecipe.free, "warmup")

    batch: int = 32
    rate: float = 1e-3
    warmup: int = 100
    image_weight: float = 0.5
    late: float = 0.0
    shift: float = 1.0
    weight_decay: float = 0.01


class FlowTask(Task):
    """Trains a flow's network on the velocity between noise and labeled images."""

    name = "symmflow"

    def __init__(self, model: SymmFlowModel, data: Labeled, recipe: Recipe, machine: Machine) -> None:
        """Prepare the training; the model is moved to the machine's device."""
        self.data, self.recipe, self.machine = data, recipe, machine
        self.model = model.to(machine.device).train()
        machine.shard(model.unet)
        self.part = Part(
            model.unet, adamw(model.unet, recipe.rate, weight_decay=recipe.weight_decay, bits=recipe.adam_bits)
        )
        self.parts = {"flow": self.part}
        self._latents: Latents | None = None
        if model.vae is not None and isinstance(data, Stored) and data.fixed:
            self._latents = Latents(model, data, recipe.batch, machine.device)

    def updates(self, step: int) -> Iterator[Update]:
        """Yield one update; its rate is warmed up and then lowered along a cosine."""
        recipe = self.recipe
        rate = warmup_cosine(step, steps=recipe.steps, warmup=recipe.warmup, peak=recipe.rate)
        yield Update("flow", rate, lambda part: self.losses(Draw(recipe.seed, "symmflow", step, part)))

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the loss of a batch, and the losses of its two halves."""
        z, t, wanted = self.batch(draw)
        with self.machine.autocast():
            velocity = self.model(z, t)
        loss, image, semantics = flow.loss(velocity.float(), wanted, self.recipe.image_weight)
        return {"loss": loss, "image": image, "semantics": semantics}

    @torch.no_grad()
    def batch(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_t, t and the target velocity of a fresh batch."""
        model, count, device = self.model, self.recipe.batch, self.machine.device
        if self._latents is None:
            images, labels = self.data.batch(draw.rng, count)
            x = model.encode(to_pixels(images).to(device))
        else:
            x, labels = self._latents.batch(draw.rng, count)
        shape = (count, 3, *model.config.size) if model.config.kind == "masks" else (count, *model.half_shape)
        m = infer.half_of(model, torch.from_numpy(labels).to(device), draw.uniform(*shape).to(device))
        noise_x, noise_m = (draw.normal(*x.shape).to(device) for _ in range(2))
        # one time from each of N equal parts has less variance than N independent ones
        t = (torch.arange(count) + draw.uniform(count)) / count
        t = t / (t + self.recipe.shift * (1 - t))
        t = torch.where(draw.uniform(count) < self.recipe.late, 1.0, t).to(device)
        return flow.interpolate(x, m, noise_x, noise_m, t), t, flow.target(x, m, noise_x, noise_m)

    def averaged(self) -> SymmFlowModel:
        """Return a copy of the model with averaged weights, in inference mode."""
        copy = SymmFlowModel(self.model.config)
        copy.unet.load_state_dict(self.part.whole_average())
        if hasattr(self.model, "context"):
            copy.context.data.copy_(self.model.context.data)
        copy.vae = self.model.vae
        return copy.to(self.machine.device).eval().requires_grad_(False)

    def sheet(self, path: Path) -> dict[str, float]:
        """Infer and draw held-out scenes in batches; measure the inference and write a sheet of some scenes."""
        model, device, batch = self.averaged(), self.machine.device, self.recipe.batch
        images, labels = self.data.batch(np.random.default_rng(1), MEASURED, "eval")
        pixels, targets = to_pixels(images) / 2 + 0.5, torch.from_numpy(labels)
        noise = torch.Generator().manual_seed(1)
        measured: dict[str, float] = {}
        found = targets
        for count in (1, 5):
            draws = torch.randn((len(pixels), *model.half_shape), generator=noise).to(device)
            parts = zip(pixels.split(batch), draws.split(batch), strict=True)
            found = torch.cat([infer.infer(model, p.to(device), d, steps=count).argmax(dim=1).cpu() for p, d in parts])
            measured[f"accuracy_{count}"] = float((found == targets).float().mean())
            if model.config.kind == "masks":
                iou = infer.intersection_over_union(found, targets, len(model.config.labels))
                measured[f"miou_{count}"] = float(iou.nanmean())
        shown = targets[:SHOWN]
        draws = torch.randn((len(shown), *model.half_shape), generator=noise).to(device)
        parts = zip(shown.split(batch), draws.split(batch), strict=True)
        drawn = [infer.draw(model, infer.half_of(model, part.to(device)), d, steps=10).cpu() for part, d in parts]
        sheet_of(model.config, pixels[:SHOWN], shown, found[:SHOWN], torch.cat(drawn)).save(path)
        return measured
