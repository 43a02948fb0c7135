"""Contact sheets: pictures in a grid, each with its prompt and score."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Cell = tuple[Image.Image, str, str]
"""A picture, its caption and its score as text."""

CELL = 192
LINES = 3
MARGIN = 10
LINE_HEIGHT = 14
MAX_CELLS = 400


def contact_sheet(cells: Sequence[Cell], columns: int | None = None) -> Image.Image:
    """Draw cells in a grid; at most ``MAX_CELLS`` are shown.

    Args:
        cells: pictures of any size, scaled to fit.
        columns: cells a row; about as many as rows by default.
    """
    cells = cells[:MAX_CELLS]
    columns = columns or min(6, math.ceil(math.sqrt(len(cells))))
    rows = math.ceil(len(cells) / columns)
    text_height = (LINES + 1) * LINE_HEIGHT
    width, height = CELL + MARGIN, CELL + text_height + MARGIN
    sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for index, (picture, caption, score) in enumerate(cells):
        left = MARGIN + (index % columns) * width
        top = MARGIN + (index // columns) * height
        sheet.paste(_fit(picture), (left, top))
        lines = textwrap.wrap(caption, 34)
        if len(lines) > LINES:
            lines = [*lines[: LINES - 1], lines[LINES - 1][:31] + "…"]
        for number, line in enumerate([score, *lines] if score else lines):
            place = (left, top + CELL + 2 + number * LINE_HEIGHT)
            draw.text(place, line, fill="#0b5394" if score and number == 0 else "black", font=font)
    return sheet


def _fit(picture: Image.Image) -> Image.Image:
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # enlarged pixels stay sharp, reduced ones are averaged
    filter_ = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize(size, filter_)
