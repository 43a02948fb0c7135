"""Training data: captions and images, drawn from the grammar's training split."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..layout import draw_scene
from ..render import render_batch


def draw_images(rng: np.random.Generator, count: int, plain_share: float) -> Tensor:
    """Draw scenes, often textured, for the autoencoder: float [N, 3, 64, 64] in [-1, 1]."""
    return to_tensor(render_batch([draw_scene(rng, plain_share)[1] for _ in range(count)])) * 2 - 1


def scenes(rng: np.random.Generator, count: int) -> tuple[Tensor, list[str]]:
    """Draw scenes with captions, for training other models: float [N, 3, 64, 64] in [0, 1] and N texts."""
    drawn = [draw_scene(rng) for _ in range(count)]
    return to_tensor(render_batch([scene for _, scene in drawn])), [asked.text() for asked, _ in drawn]


def to_tensor(images: np.ndarray) -> Tensor:
    """Convert uint8 [N, H, W, 3] to float [N, 3, H, W] in [0, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def save_sheet(images: Tensor, path: Path, columns: int = 8, zoom: int = 2) -> None:
    """Write float images [N, 3, H, W] in [0, 1] as one PNG, ``columns`` per row."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.zeros(rows * (height + 2), columns * (width + 2), 3)
    for index, image in enumerate(images.detach().float().clamp(0, 1)):
        top, left = index // columns * (height + 2), index % columns * (width + 2)
        sheet[top : top + height, left : left + width] = image.permute(1, 2, 0)
    picture = Image.fromarray((sheet * 255).round().byte().numpy())
    size = (picture.width * zoom, picture.height * zoom)
    picture.resize(size, Image.Resampling.NEAREST).save(path)
