"""Text in every script on sheets and plots: fonts by what they hold, and a word about what none holds."""

import warnings

import pytest
from PIL import Image, ImageChops, ImageDraw, features

from steer.results import lettering
from steer.results.lettering import REPLACEMENT, clusters, draw_text, drawable, fit_fonts, text_length
from steer.results.sheets import contact_sheet

BROUGHT = bool(lettering._brought())
needs_fonts = pytest.mark.skipif(not BROUGHT, reason="weblate-fonts is not installed")


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_told", set())


def drawn(text: str, size: int = 16) -> Image.Image:
    picture = Image.new("RGB", (400, 32), "white")
    draw_text(ImageDraw.Draw(picture), (0, 0), text, size, "black")
    return picture


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


@pytest.mark.parametrize(
    "text",
    [
        "a red circle", "für Ärzte", "красный", "κόκκινο", "دائرة حمراء", "עיגול אדום", "😀",
        *(pytest.param(text, marks=needs_fonts) for text in (
            "赤い円", "红色的圆", "紅色的圓", "빨간 원", "วงกลม", "लाल वृत्त", "🔴🎨🐈", "猫 a cat قطة",
        )),
    ],
)  # fmt: skip
def test_every_letter_has_a_glyph(text: str) -> None:
    with warnings.catch_warnings(action="error"):
        assert drawable(text) == text
        picture = drawn(text)
    boxes = drawn(REPLACEMENT * len(text))
    assert picture.getbbox() and not same(picture, Image.new("RGB", picture.size, "white")) and not same(picture, boxes)
    assert 0 < text_length(text, 16) < 400


def test_what_no_font_holds_is_told_once_and_drawn_as_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "\U0010fffd"  # for private use
    with pytest.warns(UserWarning, match=r"no font here has .* \(U\+10FFFD\); install weblate-fonts") as told:
        assert drawable(f"a {gone} b {gone}") == f"a {REPLACEMENT} b {REPLACEMENT}"
        drawn(f"again {gone}")
    assert len(told) == 1


@pytest.mark.skipif(not features.check("raqm"), reason="this Pillow has no Raqm")
def test_right_to_left_text_is_shaped_and_ordered() -> None:
    whole, letters = text_length("عيد", 40), sum(text_length(c, 40) for c in "عيد")
    assert whole < letters  # joined forms are narrower than letters alone
    picture = Image.new("RGB", (200, 60), "white")
    draw_text(ImageDraw.Draw(picture), (0, 0), "שלום 12", 32, "black")
    number = Image.new("RGB", (200, 60), "white")
    draw_text(ImageDraw.Draw(number), (0, 0), "12", 32, "black")
    width = int(text_length("12", 32)) - 2
    assert same(picture.crop((0, 0, width, 60)), number.crop((0, 0, width, 60)))  # what is last stands to the left


def test_marks_and_joiners_stay_with_their_letters() -> None:
    assert list(clusters("e\u0301a")) == ["e\u0301", "a"]
    assert list(clusters("❤\ufe0fx")) == ["❤\ufe0f", "x"]
    assert list(clusters("")) == []
    assert text_length("e\u0301", 40) == text_length("e", 40)


@needs_fonts
def test_sheets_wrap_text_without_spaces() -> None:
    picture = Image.new("RGB", (64, 64))
    one, two = (contact_sheet([(picture, "赤い円" * count, "")]) for count in (3, 12))
    assert two.height > one.height


@pytest.mark.slow
@needs_fonts
def test_plots_get_the_fonts_that_their_texts_need() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2))
    FigureCanvasAgg(figure)
    figure.suptitle("赤い円 a circle", parse_math=False)
    fit_fonts(figure)
    with warnings.catch_warnings(action="error"):
        figure.canvas.draw()
    assert "steer KurintoSansJP-Rg" in figure.texts[0].get_fontfamily()
