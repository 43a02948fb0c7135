"""Re-make the SymmFlow section of docs/results.md: reading and drawing by the embedded flows, by steps.

    python benchmarks/symmflow.py [--out outputs/symmflow] [--scenes 400] [--images 200]

The digits' model is trained by this command too (a few minutes). Measurements are kept in the output folder as soon
as they are known, so that an interrupted run resumes; delete the folder to start over. The section stands between two
markers; the rest of the file is not changed.
"""

import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from measures import ROOT, Embedding, frechet, interval, write_section
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from steer import Prompt
from steer_shapes.captions import TRAINING_MIXTURE, sample_requirements
from steer_shapes.labeled import MASK_COLORS, ShapesClasses
from steer_shapes.layout import LayoutError, sample_scene
from steer_shapes.render import render, render_labels
from steer_shapes.scenes import SHAPES, Scene
from steer_shapes.verifier import parse_images
from steer_symmflow import infer
from steer_symmflow.images import pack_mask
from steer_symmflow.model import SymmFlowModel, find, load
from steer_symmflow.train.data import digits

BEGIN, END = "<!-- symmflow: made by benchmarks/symmflow.py -->", "<!-- symmflow: end -->"
READ_STEPS, DRAW_STEPS = (1, 5), (1, 5, 10, 25)
BATCH = 32
NEAR = 4.0
"""Pixels that a drawn object's center may be off its mask's."""


@dataclass(frozen=True)
class Held:
    """Held-out scenes: captions, objects, images float ``[N, 3, 64, 64]`` in [0, 1] and labels ``[N, 64, 64]``."""

    captions: list[str]
    scenes: list[Scene]
    images: Tensor
    labels: Tensor


def held_out(count: int, seed: int, categories: tuple[str, ...] = tuple(TRAINING_MIXTURE)) -> Held:
    """Draw scenes whose captions no training saw; categories by their share in training."""
    rng = np.random.default_rng(seed)
    shares = np.array([TRAINING_MIXTURE[name] for name in categories])
    captions: list[str] = []
    scenes: list[Scene] = []
    while len(scenes) < count:
        asked = sample_requirements(str(rng.choice(categories, p=shares / shares.sum())), rng, "eval")
        try:
            scenes.append(sample_scene(asked, rng))
        except LayoutError:  # too crowded to place
            continue
        captions.append(asked.text())
    images = torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    labels = np.stack([render_labels(scene, [1 + SHAPES.index(o.shape) for o in scene]) for scene in scenes])
    return Held(captions, scenes, images, torch.from_numpy(labels.astype(np.int64)))


def shows(scene: Scene, found: list[Any]) -> bool:
    """Whether the objects found are a scene's: as many, each of its shape and within ``NEAR`` pixels of its place."""
    left = list(found)
    for thing in scene:
        match = next((o for o in left if o.shape == thing.shape
                      and max(abs(o.cx - thing.cx), abs(o.cy - thing.cy)) <= NEAR), None)  # fmt: skip
        if match is None:
            return False
        left.remove(match)
    return not left


def one_object(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw held-out scenes of one object: images float ``[N, 3, 64, 64]`` in [0, 1], and their classes ``[N]``."""
    pixels, labels = ShapesClasses().batch(np.random.default_rng(seed), count, "eval")
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)


def masked_prompts(count: int, seed: int) -> list[Prompt]:
    """Return prompts of held-out scenes: the mask says what is where, the caption how it looks."""
    held = held_out(count, seed, ("color", "texture", "shape"))
    prompts = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (caption, labels) in enumerate(zip(held.captions, held.labels, strict=True)):
            file = Path(folder) / f"{number}.png"
            Image.fromarray(np.array(MASK_COLORS, np.uint8)[labels.numpy()]).save(file)
            metadata = {"mask": pack_mask(str(file))}
            prompts.append(Prompt(caption, id=f"{seed}-{number}", seed=1000 * number, metadata=metadata))
    return prompts


class Bench:
    """Measures, each kept in a file of the output folder."""

    def __init__(self, out: Path, scenes: int, images: int = 200) -> None:
        self.out, self.scenes, self.images = out, scenes, images
        out.mkdir(parents=True, exist_ok=True)

    def kept(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return a measurement, from disk or by making it."""
        path = self.out / f"{name}.json"
        if not path.is_file():
            found = measure()
            path.write_text(json.dumps(found), encoding="utf-8")
            click.echo(f"{name}: measured")
        return json.loads(path.read_text(encoding="utf-8"))

    # ---- reading -----------------------------------------------------------------------------------------

    def confusion(self, steps: int) -> list[list[list[int]]]:
        """Return each held-out scene's pixels by true and found label, ``[N, K, K]``."""
        held, model = held_out(self.scenes, 0), load(find("masks"))
        count = len(model.config.labels)
        found = _read(model, held.images, steps)
        pairs = (held.labels * count + found).flatten(1)
        return [torch.bincount(row, minlength=count * count).view(count, count).tolist() for row in pairs]

    def class_hits(self, steps: int) -> list[float]:
        """Return whether each held-out scene of one object got its class."""
        images, labels = one_object(2 * self.scenes, 0)
        return (_read(load(find("classes")), images, steps) == labels).float().tolist()

    def digit_hits(self, steps: int) -> list[float]:
        """Return whether each held-out digit got its class, by a model that is trained here if it is not there."""
        folder = self.out / "digits" / "model"
        if not folder.is_dir():
            train_digits(self.out / "digits")
        pixels, labels = digits().all_of("eval")
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return (_read(load(folder), images, steps) == torch.from_numpy(labels)).float().tolist()

    # ---- drawing -----------------------------------------------------------------------------------------

    def drawn(self, steps: int) -> dict[str, Any]:
        """Draw every held-out mask once; return whether each image shows its mask, and the embeddings."""
        held, model, embed = held_out(self.images, 0), load(find("masks")), Embedding()
        noise = torch.Generator().manual_seed(steps)
        hits: list[float] = []
        features: list[list[float]] = []
        for start in range(0, self.images, BATCH):
            planes = infer.half_of(model, held.labels[start : start + BATCH])
            images = infer.draw(model, planes, torch.randn(planes.shape, generator=noise), steps=steps)
            images = (images * 255).round() / 255
            scenes = held.scenes[start : start + BATCH]
            hits += [float(shows(s, f)) for s, f in zip(scenes, parse_images(images), strict=True)]
            features += embed(images).tolist()
        return {"exact": hits, "features": features}

    def real(self) -> dict[str, Any]:
        """Return what the measures of drawing say of real scenes: the best that can be reached."""
        held, embed = held_out(self.images, 0), Embedding()
        hits = [float(shows(s, f)) for s, f in zip(held.scenes, parse_images(held.images), strict=True)]
        reference = embed(held_out(2000, 1).images)
        return {"exact": hits, "features": embed(held.images).tolist(), "reference": reference.tolist()}

    def drawn_classes(self, steps: int) -> dict[str, Any]:
        """Draw the classes in turn; return whether each image shows one object and of its class, and the embeddings."""
        model, embed = load(find("classes")), Embedding()
        noise = torch.Generator().manual_seed(steps)
        classes = torch.arange(2 * self.images) % len(model.config.labels)
        rows: dict[str, Any] = {"exact": [], "features": []}
        for part in classes.split(BATCH):
            planes = infer.half_of(model, part, torch.rand(len(part), *model.half_shape, generator=noise))
            images = infer.draw(model, planes, torch.randn(planes.shape, generator=noise), steps=steps)
            images = (images * 255).round() / 255
            for label, found in zip(part.tolist(), parse_images(images), strict=True):
                rows["exact"].append(float([o.shape for o in found] == [model.config.labels[label]]))
            rows["features"] += embed(images).tolist()
        return rows

    def real_classes(self) -> dict[str, Any]:
        """Return what the measures of drawing classes say of real scenes of one object."""
        images, labels = one_object(2 * self.images, 0)
        found = parse_images(images)
        hits = [float([o.shape for o in row] == [SHAPES[label]]) for row, label in zip(found, labels, strict=True)]
        embed = Embedding()
        reference = embed(one_object(2000, 1)[0])
        return {"exact": hits, "features": embed(images).tolist(), "reference": reference.tolist()}


def _read(model: SymmFlowModel, images: Tensor, steps: int) -> Tensor:
    """Return the labels of images, each read with noise of its own."""
    noise = torch.Generator().manual_seed(0)
    found = []
    for part in images.split(BATCH):
        draws = torch.randn(len(part), *model.half_shape, generator=noise)
        found.append(infer.infer(model, part, draws, steps=steps).argmax(dim=1))
    return torch.cat(found)


def train_digits(out: Path) -> None:
    """Train the digits' model by its command."""
    from steer_symmflow.train.cli import command

    arguments = ["--data", "digits", "--out", str(out), "--widths", "32,64", "--patch", "2", "--batch", "64",
                 "--late", "0.5", "--image-weight", "0.25", "--beta", "8", "--rate", "2e-3", "--steps", "3000",
                 "--ema", "0.995"]  # fmt: skip
    command.main([*arguments, *(["--resume"] if (out / "recipe.json").exists() else [])], standalone_mode=False)


def mean_iou(confusion: NDArray, draws: int = 2000) -> str:
    """Return the mean over labels of their IoU over all scenes, with its bootstrap interval over scenes."""

    def of(pairs: NDArray) -> NDArray:
        both = pairs.diagonal(axis1=-2, axis2=-1)
        return np.asarray((both / (pairs.sum(-1) + pairs.sum(-2) - both)).mean(-1))

    count = len(confusion)
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)
    low, high = np.quantile(of(np.einsum("dn,nij->dij", times, confusion)), [0.025, 0.975])
    return f"{float(of(confusion.sum(0))):.3f} [{low:.3f}, {high:.3f}]"


def section(bench: Bench) -> str:
    """Measure everything; return the section's text."""
    read = {steps: (
        mean_iou(np.array(bench.kept(f"masks-{steps}", lambda s=steps: bench.confusion(s)), float)),
        interval(bench.kept(f"classes-{steps}", lambda s=steps: bench.class_hits(s))),
        interval(bench.kept(f"digits-{steps}", lambda s=steps: bench.digit_hits(s))),
    ) for steps in READ_STEPS}  # fmt: skip
    real = bench.kept("real", bench.real)
    drawn = {steps: bench.kept(f"drawn-{steps}", lambda s=steps: bench.drawn(s)) for steps in DRAW_STEPS}
    one = bench.kept("real-classes", bench.real_classes)
    ones = {steps: bench.kept(f"drawn-classes-{steps}", lambda s=steps: bench.drawn_classes(s)) for steps in DRAW_STEPS}
    return "\n".join([
        BEGIN,
        "## SymmFlow: reading and drawing",
        "",
        "Made by `python benchmarks/symmflow.py`. Models `symmflow:masks` and `symmflow:classes` as they ship, fp32 on "
        f"{platform.machine()} CPU, torch {torch.__version__}; {bench.scenes} held-out scenes ({2 * bench.scenes} of "
        "one object for the classes), and the "
        f"{len(bench.kept('digits-1', list))} held-out digits of scikit-learn's by a model that the command trains. "
        "Euler steps, one draw of the noise. Intervals: 95% bootstrap over scenes.",
        "",
        "Reading, with the flow run backward from the image:",
        "",
        "| steps | mean IoU of masks | accuracy of classes | accuracy of digits |",
        "|---|---|---|---|",
        *[f"| {steps} | {iou} | {classes} | {digit} |" for steps, (iou, classes, digit) in read.items()],
        "",
        f"Drawing from {bench.images} held-out masks. *Exact* images show each object of their mask, of its shape and "
        f"within {NEAR:g} pixels of its place, and nothing else, as the verifier sees it. *Fréchet*: between the "
        "embedded CLIP's embeddings and those of 2,000 other held-out scenes.",
        "",
        "| steps | exact | Fréchet |",
        "|---|---|---|",
        *drawings(drawn, real),
        "",
        f"Drawing from classes, {2 * bench.images} images, as many of each. *Exact* images show one object, of the "
        "class requested. *Fréchet*: to 2,000 held-out scenes of one object.",
        "",
        "| steps | exact | Fréchet |",
        "|---|---|---|",
        *drawings(ones, one),
        "",
        "The limits of the flow itself: on jointly Gaussian image and semantics of correlation ρ, where the best "
        "velocity is known, the paper's ODE carries p(m) to p(x) exactly, but the mean of x given m comes out at "
        "0.68 to 0.79 of ρ·m, with as much more variance (`tests/plugins/symmflow/test_flow.py`). At no t are image "
        "and semantics both free of noise, so that the velocity never sees the pair: a symmetric flow is a good reader "
        "and painter, and no exact sampler of p(x | m).",
        END,
    ])  # fmt: skip


def drawings(drawn: dict[int, dict[str, Any]], real: dict[str, Any]) -> list[str]:
    """Return the rows of a table of what was drawn by steps, and last of real scenes."""
    reference = np.array(real["reference"])
    rows = {**{str(steps): data for steps, data in drawn.items()}, "real scenes": real}
    return [f"| {name} | {interval(data['exact'])} | {frechet(np.array(data['features']), reference):.4f} |"
            for name, data in rows.items()]  # fmt: skip


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "symmflow", show_default=True)
@click.option("--scenes", type=click.IntRange(8), default=400, show_default=True, help="Held-out scenes.")
@click.option("--images", type=click.IntRange(8), default=200, show_default=True, help="Masks to draw from.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(out: Path, scenes: int, images: int, threads: int) -> None:
    """Measure the embedded flows and write their section of docs/results.md."""
    torch.set_num_threads(threads)
    bench = Bench(out, scenes, images)
    began = time.monotonic()
    text = section(bench)
    write_section(text, BEGIN, END)
    click.echo(text)
    click.echo(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
