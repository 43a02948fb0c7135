"""Where the weights that ship with this package lie."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def pipeline() -> Path:
    """The text-to-image model: a StableDiffusionPipeline folder in diffusers format."""
    return WEIGHTS / "pipeline"


def detector() -> Path:
    """The detector that differentiable rewards read: ``detector.safetensors``."""
    return WEIGHTS / "detector"


def clip() -> Path:
    """The CLIP: an open_clip folder (``open_clip_config.json`` and safetensors)."""
    return WEIGHTS / "clip"
