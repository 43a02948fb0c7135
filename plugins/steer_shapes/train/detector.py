"""Stage 5: the detector for the differentiable rewards."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steer.training import Draw

from ..detector import ATTRIBUTES, GRID, STRIDE, Detector, Reading, split
from ..layout import draw_scene
from ..render import render_batch
from ..scenes import Scene, SceneObject
from .autoencoder import reconstruct
from .clip import degrade
from .data import to_tensor
from .stage import Recipe, Stage

RECIPE = Recipe(steps=1200, batch=48, rate=2e-3, warmup=100, weight_decay=0.02, ema=0.995)
PLAIN_SHARE = 0.6
RECONSTRUCTED = 8
"""Number of images per batch that pass through the autoencoder, with noise on their latents."""
SPREAD = 0.8
"""Standard deviation of an object's density, in cells."""
DENSITY_SCALE = 20.0


def build() -> nn.ModuleDict:
    """Return the untrained detector."""
    return nn.ModuleDict({"detector": Detector().to(memory_format=torch.channels_last)})


def targets(scenes: list[Scene]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return densities ``[N, 256]``, in which each object adds 1, and attributes ``[N, 256]`` of the nearest object."""
    places = (np.arange(GRID) + 0.5) * STRIDE
    density = np.zeros((len(scenes), GRID, GRID), np.float32)
    attributes = {name: np.zeros((len(scenes), GRID, GRID), np.int64) for name in ATTRIBUTES}
    for row, scene in enumerate(scenes):
        distance = np.stack([(places[None] - o.cx) ** 2 + (places[:, None] - o.cy) ** 2 for o in scene])
        bumps = np.exp(-0.5 * distance / (SPREAD * STRIDE) ** 2)
        density[row] = (bumps / bumps.sum(axis=(1, 2), keepdims=True)).sum(axis=0)
        nearest = distance.argmin(axis=0)
        for name, values in ATTRIBUTES.items():
            attributes[name][row] = np.array([values.index(getattr(o, name)) for o in scene])[nearest]
    flat = {name: torch.from_numpy(value).flatten(1) for name, value in attributes.items()}
    return torch.from_numpy(density).flatten(1), flat


def losses(out: Tensor, scenes: list[Scene]) -> dict[str, Tensor]:
    """Return the loss of the detector's output: densities, counts, and attributes at the objects."""
    density, attributes = targets(scenes)
    logits = out.float().flatten(2)
    found = F.softplus(logits[:, 0])
    place = (DENSITY_SCALE * (found - density)).square().mean()
    count = (found.sum(1) - density.sum(1)).square().mean()
    weight = density / density.sum()
    total = place + 0.2 * count
    metrics = {"place": place, "count": count}
    parts = logits[:, 1:].split([len(values) for values in ATTRIBUTES.values()], dim=1)
    for (name, truth), part in zip(attributes.items(), parts, strict=True):
        metrics[name] = (F.cross_entropy(part, truth, reduction="none") * weight).sum()
        total = total + metrics[name]
    return {"loss": total, **metrics}


class DetectorStage(Stage):
    """Trains on scenes of the training split, damaged to resemble unfinished samples."""

    name = "detector"
    split = ("detector",)
    build = staticmethod(build)

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the losses of a batch of scenes, see :func:`losses`."""
        rng, count = draw.rng, self.recipe.batch
        scenes = [draw_scene(rng, PLAIN_SHARE)[1] for _ in range(count)]
        images = to_tensor(render_batch(scenes))
        images[:RECONSTRUCTED] = reconstruct(self.vae, images[:RECONSTRUCTED], draw, self.machine.autocast())
        # damage affects runs of neighbors, so images are shuffled; else it would always affect the reconstructed ones
        order = torch.from_numpy(rng.permutation(count))
        images = degrade(images[order], rng, draw.noise).contiguous(memory_format=torch.channels_last)
        with self.machine.autocast():
            out = self.modules["detector"](images.to(self.machine.device))
        return losses(out.cpu(), [scenes[index] for index in order.tolist()])

    def sheet(self, path: Path) -> dict[str, float]:
        """Measure counts and attributes on fresh scenes."""
        return accuracy(self.averaged()["detector"], self.recipe.seed, count=200)


@torch.no_grad()
def accuracy(detector: nn.Module, seed: int, count: int) -> dict[str, float]:
    """Measure on fresh clean scenes how often the count and each attribute of an object are right."""
    rng = Draw(seed, "detector-test", 0).rng
    scenes = [draw_scene(rng, PLAIN_SHARE)[1] for _ in range(count)]
    reading = split(detector(to_tensor(render_batch(scenes))))
    right = [abs(float(reading.density[row].sum()) - len(scene)) < 0.5 for row, scene in enumerate(scenes)]
    found = {"count": sum(right) / count}
    for name in ATTRIBUTES:
        hits = [_names(reading, row, obj, name) for row, scene in enumerate(scenes) for obj in scene]
        found[name] = sum(hits) / len(hits)
    return {name: round(value, 3) for name, value in found.items()}


def _names(reading: Reading, row: int, obj: SceneObject, attribute: str) -> bool:
    """Whether the detector's likeliest attribute at an object is the right one."""
    cell = int(obj.cy // STRIDE) * GRID + int(obj.cx // STRIDE)
    likeliest = int(reading.chances[attribute][row, :, cell].argmax())
    return bool(ATTRIBUTES[attribute][likeliest] == getattr(obj, attribute))
