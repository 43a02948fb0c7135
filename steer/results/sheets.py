"""Contact sheets: pictures in a grid with their prompts and scores, and plain beside steered ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from steer.results.lettering import clusters, draw_text, is_shown, text_length

Cell = tuple[Image.Image, str, str]
"""A picture, its caption and its score as text."""
Size = tuple[int, int]
"""Width and height in pixels."""

CELL = 192
LINES = 3
MARGIN = 10
LINE_HEIGHT = 15
MAX_CELLS = 400
WIDE, STRIP = 2.2, 3
"""Width by height from which a picture counts as a filmstrip, and the squares that one takes."""

BLUE, GRAY, INK = "#0b5394", "#777777", "#111111"


def score_text(reward: float | None) -> str:
    """Return a score as text under a picture; empty without a reward."""
    return "" if reward is None else f"{reward:.3f}"


def contact_sheet(cells: Sequence[Cell], columns: int | None = None) -> Image.Image:
    """Draw cells in a grid; at most ``MAX_CELLS`` are shown.

    Args:
        cells: pictures of any size, scaled to fit.
        columns: cells per row; about as many as rows by default.
    """
    cells = cells[:MAX_CELLS]
    box = box_of([picture for picture, _, _ in cells], CELL)
    columns = columns or min(6, math.ceil(math.sqrt(len(cells) * box[1] / box[0])))
    rows = math.ceil(len(cells) / columns)
    captions = [wrap(caption, box[0], LINES) for _, caption, _ in cells]
    # no taller than the longest caption needs
    text_lines = max(len(lines) for lines in captions) + any(score for _, _, score in cells)
    width, height = box[0] + MARGIN, box[1] + text_lines * LINE_HEIGHT + 2 * MARGIN
    sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, _, score) in enumerate(cells):
        left, top = MARGIN + (index % columns) * width, MARGIN + (index // columns) * height
        paste(sheet, picture, left, top, box)
        y = top + box[1] + 4
        if score:
            draw_text(draw, (left, y), score, 11, BLUE)
            y += LINE_HEIGHT
        for number, line in enumerate(captions[index]):
            draw_text(draw, (left, y + number * LINE_HEIGHT), line, 11, INK)
    return sheet


@dataclass(frozen=True)
class Tile:
    """One particle of a comparison.

    Attributes:
        picture: the image.
        score: its reward as text, or empty.
        chosen: whether it is the result; it is framed then.
    """

    picture: Image.Image
    score: str
    chosen: bool


@dataclass(frozen=True)
class Row:
    """One prompt of a comparison: its particles without and with steering."""

    caption: str
    plain: Sequence[Tile]
    steered: Sequence[Tile]


MAX_ROWS, MAX_TILES = 48, 8
TILE, GAP, FRAME = 112, 8, 3
DIVIDE = 28
"""Pixels between the two halves."""


def comparison_sheet(rows: Sequence[Row], steered_by: str) -> Image.Image:
    """Draw one row per prompt: plain particles on the left, steered ones on the right, the chosen ones framed.

    At most ``MAX_ROWS`` prompts and ``MAX_TILES`` particles per side are shown, the chosen ones among them; a filmstrip
    takes the place of three.

    Args:
        rows: prompts with their particles in the order of slots.
        steered_by: heading of the right half, such as ``"fk by shapes"``.
    """
    box = box_of([tile.picture for row in rows[:MAX_ROWS] for tile in (*row.plain, *row.steered)], TILE)
    most = max(1, MAX_TILES * TILE // box[0])
    rows = [Row(row.caption, _limit(row.plain, most), _limit(row.steered, most)) for row in rows[:MAX_ROWS]]
    counts = zip(*((len(row.plain), len(row.steered)) for row in rows), strict=True)
    half = [max(tiles) * (box[0] + GAP) - GAP for tiles in counts]
    scored = any(tile.score for row in rows for tile in (*row.plain, *row.steered))
    top, caption_height = 58, 22
    height = caption_height + box[1] + (LINE_HEIGHT if scored else 0) + 18
    size = (2 * MARGIN + half[0] + DIVIDE + half[1], top + len(rows) * height)
    sheet = Image.new("RGB", (max(size[0], 360), size[1]), "white")
    draw = ImageDraw.Draw(sheet)
    starts = (MARGIN, MARGIN + half[0] + DIVIDE)
    _heading(draw, ("plain", steered_by), starts, sheet.width)
    for number, row in enumerate(rows):
        y = top + number * height
        (line,) = wrap(row.caption, sheet.width - 2 * MARGIN, 1, size=12)
        draw_text(draw, (MARGIN, y), line, 12, INK)
        for side, start in zip((row.plain, row.steered), starts, strict=True):
            for place, tile in enumerate(side):
                _tile(sheet, draw, tile, start + place * (box[0] + GAP), y + caption_height, box)
    middle = starts[1] - DIVIDE // 2
    draw.line([(middle, MARGIN), (middle, 40)], fill="#cccccc")
    for number in range(len(rows)):
        y = top + number * height + caption_height
        draw.line([(middle, y), (middle, y + box[1])], fill="#cccccc")
    return sheet


def _heading(draw: ImageDraw.ImageDraw, titles: tuple[str, str], starts: tuple[int, int], width: int) -> None:
    for title, start, end, color in zip(titles, starts, (starts[1], width), (GRAY, BLUE), strict=True):
        (line,) = wrap(title, end - start - MARGIN, 1, size=15)
        draw_text(draw, (start, MARGIN), line, 15, color)
    draw_text(draw, (starts[0], MARGIN + 22), "framed: the result", 10, GRAY)


def _tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, box: Size) -> None:
    if tile.chosen:
        frame = (left - FRAME, top - FRAME, left + box[0] + FRAME - 1, top + box[1] + FRAME - 1)
        draw.rectangle(frame, outline=BLUE, width=FRAME)
    paste(sheet, tile.picture, left, top, box)
    draw_text(draw, (left, top + box[1] + 5), tile.score, 11, BLUE if tile.chosen else GRAY)


def _limit(tiles: Sequence[Tile], most: int) -> Sequence[Tile]:
    """Return at most ``most`` in their order, the chosen ones first in line."""
    if len(tiles) <= most:
        return tiles
    order = sorted(range(len(tiles)), key=lambda i: (not tiles[i].chosen, i))[:most]
    return [tiles[i] for i in sorted(order)]


def box_of(pictures: Sequence[Image.Image], side: int) -> Size:
    """Return the size in which every picture of a sheet is shown: a square, or a wide box if some are filmstrips."""
    shapes = [picture.width / picture.height for picture in pictures]
    if max(shapes) < WIDE:
        return side, side
    return STRIP * side, min(side, math.ceil(STRIP * side / min(shapes)))


def paste(sheet: Image.Image, picture: Image.Image, left: int, top: int, box: Size) -> None:
    """Paste a picture into the middle of a box."""
    scale = min(box[0] / picture.width, box[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # enlarged pixels stay sharp, reduced ones are averaged
    filter_ = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    fitted = picture.convert("RGB").resize(size, filter_)
    sheet.paste(fitted, (left + (box[0] - size[0]) // 2, top + (box[1] - size[1]) // 2))


def wrap(text: str, width: int, lines: int, size: int = 11) -> list[str]:
    """Break text into at most ``lines`` lines of ``width`` pixels; the last ends in … if something is left out."""
    # far more than can be shown; measuring 10,000 characters is slow
    words = "".join(c if is_shown(c) else " " for c in text[: 40 * lines + width * lines]).split()
    done: list[str] = []
    line = ""
    while words:
        word = words.pop(0)
        longer = f"{line} {word}".strip()
        if text_length(longer, size) <= width:
            line = longer
        elif not line:  # one word that is too long: break it
            letters = list(clusters(word))
            cut = 1
            while cut < len(letters) and text_length("".join(letters[: cut + 1]), size) <= width:
                cut += 1
            done.append("".join(letters[:cut]))
            if letters[cut:]:
                words.insert(0, "".join(letters[cut:]))
        else:
            done.append(line)
            line = ""
            words.insert(0, word)
    if line:
        done.append(line)
    if len(done) <= lines:
        return done or [""]
    last = done[lines - 1]
    while last and text_length(f"{last}…", size) > width:
        last = last[:-1]
    return [*done[: lines - 1], f"{last}…"]
