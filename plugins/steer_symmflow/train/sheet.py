"""Sheets of a model's results: image, mask, inferred mask, image drawn from the mask."""

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from steer.plugin import pictures
from steer_symmflow.model import SymmFlowConfig

ZOOM, GAP = 2, 2


def sheet_of(config: SymmFlowConfig, images: Tensor, truth: Tensor, found: Tensor, drawn: Tensor) -> Image.Image:
    """Return one column per scene: image, true semantics, inferred semantics, and the image drawn from the true ones.

    Args:
        images: ``[N, 3, H, W]`` in [0, 1]; so is ``drawn``.
        truth: labels ``[N]`` or ``[N, H, W]``; so are ``found``.
    """
    rows = [pictures(images), _semantics(config, truth), _semantics(config, found), pictures(drawn)]
    height, width = config.size
    sheet = Image.new("RGB", (len(images) * (width + GAP), len(rows) * (height + GAP)))
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            sheet.paste(cell, (x * (width + GAP), y * (height + GAP)))
    return sheet.resize((sheet.width * ZOOM, sheet.height * ZOOM), Image.Resampling.NEAREST)


def _semantics(config: SymmFlowConfig, labels: Tensor) -> list[Image.Image]:
    if config.kind == "masks":
        return [Image.fromarray(image) for image in np.array(config.colors, np.uint8)[labels.cpu().numpy()]]
    cells = []
    for label in labels.tolist():
        cell = Image.new("RGB", config.size[::-1])
        ImageDraw.Draw(cell).text((2, 2), config.labels[label], fill="white")
        cells.append(cell)
    return cells
