"""The stages by name; each trains in its own folder, and the weights are exported beside these folders."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn

from steer import SteerError
from steer.training import Display, Draw, Machine, RunFolder, Watch, fit, read_checkpoint

from .. import paths
from ..layout import PLAIN_SHARE
from . import autoencoder, clip, detector, preview, t2i, t2v
from .data import draw_images
from .export import export_clip, export_detector, export_pipeline, export_preview, export_video
from .stage import Recipe, Stage

RECIPES: dict[str, Recipe] = {
    "autoencoder": autoencoder.RECIPE,
    "t2i": t2i.RECIPE,
    "preview": preview.RECIPE,
    "clip": clip.RECIPE,
    "detector": detector.RECIPE,
    "t2v": t2v.RECIPE,
}


def train(name: str, recipe: Recipe, run: RunFolder, machine: Machine, *, watch: Watch, display: Display) -> None:
    """Train a stage in ``run`` and export its averaged weights into the folder ``weights`` beside it.

    Raises:
        SteerError: if the stage needs an autoencoder and none was trained beside it.
    """
    out = run.path.parent
    shipped = name in ("preview", "detector", "t2v")
    vae = None if name == "autoencoder" else load_autoencoder(out, recipe.seed, shipped=shipped)
    run.begin(name, recipe)
    stage = STAGES[name](recipe, machine, vae if vae is None else vae.to(machine.device), run.path)
    fit(stage, recipe, run, machine, watch=watch, display=display)
    averaged = stage.averaged()  # by all processes: shares are gathered
    if machine.is_main_process and name in EXPORTS:
        EXPORTS[name](vae, averaged, out / "weights")


def load_autoencoder(out: Path, seed: int, *, shipped: bool) -> AutoencoderKL:
    """Return the autoencoder that was trained in ``out``, frozen, with normalized latents.

    Args:
        out: folder of the stages' folders.
        seed: of the images for normalizing the latents.
        shipped: whether to use the shipped autoencoder if ``out`` has none.
    """
    checkpoint = out / "autoencoder" / "checkpoint.pt"
    if not checkpoint.exists():
        if shipped:
            return AutoencoderKL.from_pretrained(paths.pipeline() / "vae").float().requires_grad_(False)
        raise SteerError(f"{checkpoint} is missing; train --stage autoencoder first")
    modules = autoencoder.build()
    modules.load_state_dict(read_checkpoint(checkpoint)["parts"]["modules"]["average"])
    vae = modules.eval()["vae"].requires_grad_(False)
    rng = Draw(seed, "autoencoder-normalize", 0).rng
    images = torch.cat([draw_images(rng, 64, PLAIN_SHARE) for _ in range(8)])
    return autoencoder.normalize(vae, images)


STAGES: dict[str, type[Stage]] = {
    "autoencoder": autoencoder.AutoencoderStage,
    "t2i": t2i.TextToImageStage,
    "preview": preview.PreviewStage,
    "clip": clip.ClipStage,
    "detector": detector.DetectorStage,
    "t2v": t2v.TextToVideoStage,
}

EXPORTS: dict[str, Callable[[AutoencoderKL | None, nn.ModuleDict, Path], Path]] = {
    "t2i": lambda vae, modules, weights: export_pipeline(vae, modules, weights / "pipeline"),
    "preview": lambda _, modules, weights: export_preview(modules, weights / "pipeline" / "preview"),
    "clip": lambda _, modules, weights: export_clip(modules, weights / "clip"),
    "detector": lambda _, modules, weights: export_detector(modules, weights / "detector"),
    "t2v": lambda vae, modules, weights: export_video(vae, modules, weights / "video"),
}
