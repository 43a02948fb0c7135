"""Paths of the weights that ship with this package."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def pipeline() -> Path:
    """Return the text-to-image model: a StableDiffusionPipeline folder in diffusers format."""
    return WEIGHTS / "pipeline"


def video() -> Path:
    """Return the text-to-video model: a LattePipeline folder in diffusers format."""
    return WEIGHTS / "video"


def detector() -> Path:
    """Return the folder of the detector for the differentiable rewards: ``detector.safetensors``."""
    return WEIGHTS / "detector"


def clip() -> Path:
    """Return the CLIP: an open_clip folder (``open_clip_config.json`` and safetensors)."""
    return WEIGHTS / "clip"
