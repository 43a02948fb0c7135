"""Sheets: sizes, captions that fit, and what is left out."""

from __future__ import annotations

import pytest
from PIL import Image

from steer.results.lettering import is_shown, text_length
from steer.results.sheets import CELL, MAX_TILES, Row, Tile, _limit, comparison_sheet, contact_sheet, wrap

RED = Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("count", [1, 2, 24])
def test_every_picture_is_on_the_sheet(count: int) -> None:
    sheet = contact_sheet([(RED, "a red square", "1.000")] * count)
    red = sum(n for n, color in sheet.getcolors(1 << 24) if color == (255, 0, 0))
    assert red == count * CELL * CELL


@pytest.mark.parametrize("text", ["word " * 2000, "w" * 10_000, "", "\x1b[31m", "日本 👩‍👩‍👧 שלום", "a b"])
def test_captions_fit_their_cell(text: str) -> None:
    lines = wrap(text, CELL, 3)
    assert 1 <= len(lines) <= 3
    assert all(text_length(line, 11) <= CELL for line in lines)
    assert all(is_shown(c) for line in lines for c in line)


def test_many_particles_are_cut_but_never_the_chosen_one() -> None:
    tiles = [Tile(RED, str(i), i == 19) for i in range(20)]
    shown = _limit(tiles, MAX_TILES)
    assert len(shown) == MAX_TILES
    assert [tile.score for tile in shown] == ["0", "1", "2", "3", "4", "5", "6", "19"]


def test_the_comparison_frames_the_chosen() -> None:
    one, four = [Tile(RED, "", True)], [Tile(RED, "0.5", i == 1) for i in range(4)]
    sheet = comparison_sheet([Row("a", one, four), Row("b " * 500, one, one)], "fk by shapes")
    blue = sum(n for n, color in sheet.getcolors(1 << 24) if color == (0x0B, 0x53, 0x94))
    assert blue > 3 * 4 * 112 * 3
