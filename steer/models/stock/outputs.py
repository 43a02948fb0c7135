"""What a pipeline's call returns, as samples."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steer.errors import SteerError
from steer.models.media import media_of
from steer.models.media.video import FPS, Videos
from steer.models.stock.signature import CallSignature

RATES = ("frame_rate", "fps")
"""Arguments for the number of frames per second."""


def samples_of(made: Any, signature: CallSignature, arguments: Mapping[str, Any]) -> Any:
    """Return the samples that a call made: images as float ``[B, 3, H, W]`` in [0, 1], or videos.

    Raises:
        SteerError: if it made something else.
    """
    if media_of(signature.modality).made_of is not None:
        frames = _pixels(made, "frames")
        if frames.ndim == 5 and frames.shape[2] == 3:
            return Videos(frames, frames_per_second(signature, arguments)).stored()
        raise SteerError(f"{signature.name} gives {tuple(frames.shape)}, expected videos [B, F, 3, H, W]")
    images = _pixels(made, "images")
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images.expand(-1, 3, -1, -1)
    raise SteerError(f"{signature.name} gives {tuple(images.shape)}, expected images [B, 3, H, W]")


def frames_per_second(signature: CallSignature, arguments: Mapping[str, Any]) -> float:
    """Return the frames per second that a call makes: its argument's, else those of the example in its class's
    documentation."""
    for name in RATES:
        rate = arguments.get(name, signature.default(name))
        if rate:
            return float(rate)
    module = sys.modules[signature.pipeline.__module__]
    said = re.search(r"\bfps=(\d+)", str(getattr(module, "EXAMPLE_DOC_STRING", "")))
    return float(said[1]) if said else FPS


def _pixels(made: Any, field: str) -> Tensor:
    """Return a field of a result, or its first, as float with channels before rows and columns."""
    found = getattr(made, field, None)
    return _tensor(made[0] if found is None else found).float()


def _tensor(found: Any) -> Tensor:
    if isinstance(found, Image.Image):
        return torch.from_numpy(np.asarray(found.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)
    if isinstance(found, np.ndarray):
        return torch.from_numpy(found).movedim(-1, -3)
    return found if isinstance(found, Tensor) else torch.stack([_tensor(part) for part in found])
