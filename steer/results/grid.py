"""One picture of several runs: prompts in rows, what each run made of them in columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from steer.results.lettering import draw_text
from steer.results.sheets import GAP, GRAY, INK, LINE_HEIGHT, MARGIN, box_of, paste, wrap

SIDE, CAPTION, HEAD, FRAME = 128, 168, 44, 3
MOST_ROWS, MOST_COLUMNS = 24, 12
GREEN, RED = "#1a7f37", "#c62828"
MARKS = {True: ("✓ ", GREEN), False: ("✗ ", RED), None: ("", GRAY)}
"""Mark and color of what passed, what did not, and what was not judged."""


@dataclass(frozen=True)
class Shown:
    """What one run made of a prompt.

    Attributes:
        label: of the run.
        picture: the sample, or ``None`` if there is none.
        told: its score, and what else is to be read under it.
        passed: whether the score counts as a success; ``None`` if nobody said from where on it does.
    """

    label: str
    picture: Image.Image | None
    told: str
    passed: bool | None = None


def grid(heads: Sequence[tuple[str, str]], rows: Sequence[tuple[str, Sequence[Shown]]]) -> Image.Image:
    """Draw at most ``MOST_ROWS`` prompts and ``MOST_COLUMNS`` runs, with green and red frames if there is a verdict.

    Args:
        heads: label and cost of each run.
        rows: prompts, each with what every run made of it, in the order of ``heads``.
    """
    heads, rows = heads[:MOST_COLUMNS], [(prompt, cells[:MOST_COLUMNS]) for prompt, cells in rows[:MOST_ROWS]]
    pictures = [cell.picture for _, cells in rows for cell in cells if cell.picture is not None]
    box = box_of(pictures, SIDE) if pictures else (SIDE, SIDE)
    step = (box[0] + 2 * FRAME + GAP, box[1] + 2 * FRAME + LINE_HEIGHT + GAP)
    size = (2 * MARGIN + CAPTION + len(heads) * step[0], 2 * MARGIN + HEAD + len(rows) * step[1])
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, (label, cost) in enumerate(heads):
        left = MARGIN + CAPTION + column * step[0]
        draw_text(draw, (left, MARGIN), wrap(label, box[0], 1, size=14)[0], 14, INK)
        draw_text(draw, (left, MARGIN + 20), wrap(cost, box[0], 1, size=10)[0], 10, GRAY)
    for row, (prompt, cells) in enumerate(rows):
        top = MARGIN + HEAD + row * step[1]
        lines = wrap(prompt, CAPTION - 2 * MARGIN, 5, size=13)
        for number, line in enumerate(lines):
            y = top + (box[1] - len(lines) * 18) // 2 + number * 18
            draw_text(draw, (MARGIN, y), line, 13, INK)
        for column, cell in enumerate(cells):
            _draw(sheet, draw, cell, (MARGIN + CAPTION + column * step[0], top), box)
    return sheet


def _draw(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Shown, place: tuple[int, int], box: tuple[int, int]
) -> None:
    mark, color = MARKS[cell.passed]
    left, top = place
    if cell.picture is not None:
        if cell.passed is not None:
            corner = (left + box[0] + 2 * FRAME - 1, top + box[1] + 2 * FRAME - 1)
            draw.rectangle((*place, *corner), outline=color, width=FRAME)
        paste(sheet, cell.picture, left + FRAME, top + FRAME, box)
    told = wrap(f"{mark}{cell.told}", box[0], 1)[0]
    draw_text(draw, (left + FRAME, top + box[1] + 2 * FRAME + 1), told, 11, color)
