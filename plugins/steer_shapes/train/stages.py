"""The stages by name, each a function that trains it into a folder and exports its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from steer import SteerError

from .. import paths
from ..layout import PLAIN_SHARE
from . import autoencoder, clip, detector, t2i
from .data import draw_images
from .export import export_clip, export_detector, export_pipeline
from .loop import Recipe, generators, load_average, train

RECIPES: dict[str, Recipe] = {
    "autoencoder": autoencoder.RECIPE,
    "t2i": t2i.RECIPE,
    "clip": clip.RECIPE,
    "detector": detector.RECIPE,
}


def run_autoencoder(recipe: Recipe, out: Path, seed: int, resume: bool) -> Path:
    """Train the autoencoder into ``out/autoencoder.pt``."""
    if not resume:
        (out / "latents.pt").unlink(missing_ok=True)  # Another autoencoder's latents are of no use.
    stage = autoencoder.AutoencoderStage(seed)
    return train(stage, recipe, out, seed=seed, resume=resume, make_copy=autoencoder.build)


def load_autoencoder(out: Path, seed: int) -> AutoencoderKL:
    """The trained autoencoder of ``out`` with normalized latents, frozen."""
    checkpoint = out / "autoencoder.pt"
    if not checkpoint.exists():
        raise SteerError(f"{checkpoint} is missing; train --stage autoencoder first")
    vae = load_average(checkpoint, autoencoder.build())["vae"].requires_grad_(False)
    rng, _ = generators(seed, "autoencoder-normalize", 0)
    images = torch.cat([draw_images(rng, 64, PLAIN_SHARE) for _ in range(8)])
    return autoencoder.normalize(vae, images)


def run_t2i(recipe: Recipe, out: Path, seed: int, resume: bool) -> Path:
    """Train text encoder and U-Net into ``out/t2i.pt``; export ``out/weights/pipeline``."""
    vae = load_autoencoder(out, seed)
    stage = t2i.TextToImageStage(vae, out, seed, resume)
    checkpoint = train(stage, recipe, out, seed=seed, resume=resume, make_copy=t2i.build)
    export_pipeline(vae, load_average(checkpoint, t2i.build()), out / "weights" / "pipeline")
    return checkpoint


def run_clip(recipe: Recipe, out: Path, seed: int, resume: bool) -> Path:
    """Train the CLIP into ``out/clip.pt``; export ``out/weights/clip``."""
    stage = clip.ClipStage(load_autoencoder(out, seed), seed)
    checkpoint = train(stage, recipe, out, seed=seed, resume=resume, make_copy=clip.build)
    export_clip(load_average(checkpoint, clip.build()), out / "weights" / "clip")
    return checkpoint


def run_detector(recipe: Recipe, out: Path, seed: int, resume: bool) -> Path:
    """Train the detector into ``out/detector.pt``; export ``out/weights/detector``.

    Without an autoencoder in ``out``, the one that ships makes the damaged images.
    """
    shipped = not (out / "autoencoder.pt").exists()
    vae = AutoencoderKL.from_pretrained(paths.pipeline() / "vae") if shipped else load_autoencoder(out, seed)
    stage = detector.DetectorStage(vae.float().requires_grad_(False), seed)
    checkpoint = train(stage, recipe, out, seed=seed, resume=resume, make_copy=detector.build)
    export_detector(load_average(checkpoint, detector.build()), out / "weights" / "detector")
    return checkpoint


RUNNERS = {"autoencoder": run_autoencoder, "t2i": run_t2i, "clip": run_clip, "detector": run_detector}
