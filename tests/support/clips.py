"""Videos whose motion and flicker are known."""

from __future__ import annotations

import numpy as np
import torch

from steer.plugin import Videos


def noisy_square(seed: int = 0) -> np.ndarray:
    """Return 12 frames uint8 ``[12, 32, 48, 3]`` of a red square that moves over noise."""
    frames = np.random.default_rng(seed).integers(0, 60, (12, 32, 48, 3)).astype(np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 2 * number : 2 * number + 12] = (255, 40, 0)
    return frames


def still(level: float = 0.5, count: int = 6) -> Videos:
    """Return one video of equal frames."""
    return Videos(torch.full((1, count, 3, 16, 16), level))


def moving(speed: int, side: int = 8, count: int = 6, contrast: float = 1.0) -> Videos:
    """Return a square that moves to the right over 48 by 32 pixels, ``speed`` pixels a frame."""
    pixels = torch.zeros(1, count, 3, 32, 48)
    for number in range(count):
        pixels[:, number, :, 4 : 4 + side, speed * number : speed * number + side] = contrast
    return Videos(pixels)


def alternating(count: int = 6) -> Videos:
    """Return white and black frames in turns."""
    pixels = torch.zeros(1, count, 3, 16, 16)
    pixels[:, ::2] = 1
    return Videos(pixels)
