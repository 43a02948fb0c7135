"""One picture of several runs: what passed is framed in green, what did not in red, and nothing leaves its cell."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from steer.evaluate.page import Example, html
from steer.evaluate.tables import Table
from steer.results.grid import GREEN, MOST_COLUMNS, MOST_ROWS, RED, Shown, grid


def has(sheet: Image.Image, color: str) -> np.ndarray:
    """Return where a sheet has a color ``#rrggbb``."""
    wanted = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    return (np.asarray(sheet) == wanted).all(axis=-1)


def square(color: str, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new("RGB", size, color)


def test_verdicts_are_frames_and_marks() -> None:
    heads = [("plain", "20 evaluations"), ("fk", "80 evaluations")]
    cells = [Shown("plain", square("blue"), "0.5", False), Shown("fk", square("blue"), "1.0", True)]
    sheet = grid(heads, [("a blue square", cells)])
    red, green = has(sheet, RED), has(sheet, GREEN)
    assert red.any() and green.any()
    assert np.nonzero(red)[1].max() < np.nonzero(green)[1].min()  # column by column
    without = grid(heads, [("a blue square", [Shown(cell.label, cell.picture, cell.told) for cell in cells])])
    assert without.size == sheet.size and not (has(without, RED).any() or has(without, GREEN).any())


@pytest.mark.parametrize("size", [(16, 16), (64, 16), (1, 40), (300, 300)])
def test_any_shape_and_missing_samples(size: tuple[int, int]) -> None:
    rows = [("猫 " * 200, [Shown("x" * 99, square("blue", size), "told " * 50, True), Shown("y", None, "")])]
    sheet = grid([("x" * 99, "z" * 99), ("y", "")], rows)
    assert has(sheet, "#0000ff").any() and has(sheet, GREEN).any()


def test_many_rows_and_columns_are_cut() -> None:
    cells = [Shown(str(number), square("blue"), "") for number in range(MOST_COLUMNS + 3)]
    most = grid([(str(number), "") for number in range(MOST_COLUMNS)], [("a", cells[:MOST_COLUMNS])] * MOST_ROWS)
    assert grid([(cell.label, "") for cell in cells], [("a", cells)] * (MOST_ROWS + 5)).size == most.size


def test_examples_come_right_after_the_first_table_of_a_page() -> None:
    table = Table("Scores", ("method",), (("plain",),), "note")
    example = Example("<b>a</b>", [Shown("<i>", square("blue"), "<u>", True), Shown("y", None, "none", False)])
    page = html("T", [], [table, table], {}, [example])
    places = [page.index("<h2>Scores"), page.index("<h2>Examples"), page.rindex("<h2>Scores")]
    assert places == sorted(places)
    assert "<td class=passed>" in page and "✓ &lt;u&gt;" in page and "✗ none" in page
    assert not any(tag in page for tag in ("<b>a", "<i>", "<u>"))
    assert "Examples" not in html("T", [], [table], {}, [])
