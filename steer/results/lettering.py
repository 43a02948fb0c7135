"""Text on pictures in any script: each part of a text is drawn in a font that has its characters.

matplotlib's DejaVu Sans draws Latin, Greek, Cyrillic, Arabic, Hebrew and symbols. For the others the fonts of
``weblate-fonts`` come first, so that a sheet looks the same on every machine, and then those of the system. Raqm, which
Pillow's wheels bring, shapes Arabic and orders right-to-left text.
"""

import functools
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont, features

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Drawn for characters that no font has."""
REMEDY = "install weblate-fonts, or fonts of your system such as Noto"

_LIKELY = re.compile(r"noto|cjk|emoji|unifont|droid|wqy|pingfang|hiragino|msyh|yugoth|malgun|seguiemj|seguisym")
"""Names of system fonts with many characters; these are tried first."""
_MOST_FONTS = 600
"""Most system fonts to try: each takes some milliseconds."""
_told: set[str] = set()


def text_length(text: str, size: int) -> float:
    """Return the width in pixels of one line of text."""
    return sum(_font(file, size).getlength(part) for part, file in _runs(text))


def draw_text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: str) -> None:
    """Draw one line of text in any script; ``place`` is its upper left corner."""
    left, top = place
    baseline = top + _font(_first(), size).getmetrics()[0]
    for part, file in _runs(text):
        font = _font(file, size)
        draw.text((left, baseline), part, fill=fill, font=font, anchor="ls")
        left += font.getlength(part)


def fit_fonts(figure: Any) -> None:
    """Let matplotlib draw a figure's texts in fonts that hold their letters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_text().isascii():
            continue
        text.set_text(drawable(text.get_text()))
        added = [file for file in _fonts_for(text.get_text()) if file != _first()]
        if added:
            text.set_fontfamily([*text.get_fontfamily(), *map(_family, added)])


@functools.cache
def _family(file: str) -> str:
    """Make a font known to matplotlib by a name of its own: fonts of several languages share their family's name."""
    from matplotlib.font_manager import FontEntry, fontManager

    name = f"steer {Path(file).stem}"
    fontManager.ttflist.append(FontEntry(fname=file, name=name, size="scalable"))
    return name


def drawable(text: str) -> str:
    """Return text with a replacement character for each letter that no font holds; warns about the first."""
    held = [_held(file) for file in _fonts_for(text)]
    missing = [c for c in text if not _invisible(c) and not any(ord(c) in letters for letters in held)]
    if missing:
        _tell("letters", f"no font here has {missing[0]!r} (U+{ord(missing[0]):04X}); {REMEDY}")
        gone = str.maketrans(dict.fromkeys(missing, REPLACEMENT))
        return text.translate(gone)
    return text


def _runs(text: str) -> list[tuple[str, str]]:
    """Split a line into parts by the font that holds them, in the order in which they are drawn."""
    if text.isascii():
        return [(text, _first())]
    text = drawable(text)
    fonts = _fonts_for(text)
    runs: list[tuple[str, str]] = []
    for cluster in clusters(text):
        last = runs[-1][1] if runs else None
        needed = {ord(c) for c in cluster if not _invisible(c)}
        # a space or a mark between letters of one font does not interrupt shaping
        order = [last, *fonts] if last is not None and not cluster[0].isalnum() else fonts
        file = next((f for f in order if f and needed <= _held(f)), None)
        file = file or next((f for f in fonts if ord(cluster[0]) in _held(f)), fonts[0])
        if last == file:
            runs[-1] = (runs[-1][0] + cluster, file)
        else:
            runs.append((cluster, file))
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        if not features.check("raqm"):
            _tell("direction", "this Pillow draws right-to-left text in the wrong order; install one with Raqm")
        strong = next(c for c in map(unicodedata.bidirectional, text) if c in ("L", "R", "AL"))
        return runs if strong == "L" else runs[::-1]
    return runs


def clusters(text: str) -> Iterator[str]:
    """Yield a text's letters, each with the marks, joiners and variation selectors that belong to it."""
    cluster = ""
    for c in text:
        if cluster and not (unicodedata.category(c).startswith("M") or _invisible(c)):
            yield cluster
            cluster = ""
        cluster += c
    if cluster:
        yield cluster


def is_shown(c: str) -> bool:
    """Whether a character can stand in a line: it is printable, or joins or directs those beside it."""
    return c.isprintable() or c in "\u200c\u200d\u200e\u200f"


def _invisible(c: str) -> bool:
    return unicodedata.category(c) == "Cf" or "\ufe00" <= c <= "\ufe0f" or c in "\n\r\t"


@functools.lru_cache(maxsize=256)
def _fonts_for(text: str) -> tuple[str, ...]:
    """Return the fonts that a text needs: the first, then those that hold most of the rest."""
    chosen = [_first()]
    rest = {ord(c) for c in text if not _invisible(c)} - _held(_first())
    for fonts in (_brought(), _system()) if rest else ():
        while rest:
            best = _best(fonts, rest)
            if best is None:
                break
            chosen.append(best)
            rest -= _held(best)
    return tuple(chosen)


def _best(fonts: Iterable[str], wanted: set[int]) -> str | None:
    """Return the font that holds most of the wanted characters, the earlier of equals; ``None`` if none holds any."""
    best, most = None, 0
    for file in fonts:
        count = len(wanted & _held(file))
        if count > most:
            best, most = file, count
        if most == len(wanted):
            break
    return best


@functools.cache
def _held(file: str) -> frozenset[int]:
    """Return the characters that a font holds; none of one that cannot draw at any size."""
    from matplotlib.ft2font import FT2Font

    with suppress(Exception):  # damaged fonts, and those of pictures in one size
        ImageFont.truetype(file, 11)
        return frozenset(FT2Font(file).get_charmap())
    return frozenset()


@functools.cache
def _first() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def _brought() -> tuple[str, ...]:
    """Return the fonts of weblate-fonts: one for most scripts, then those for Chinese, Japanese and Korean."""
    with suppress(ModuleNotFoundError):
        folder = resources.files("weblate_fonts") / "static" / "weblate_fonts" / "kurinto" / "ttf"
        files = [folder / f"KurintoSans{part}-Rg.ttf" for part in ("", "SC", "JP", "KR", "TC")]
        return tuple(str(file) for file in files if file.is_file())
    return ()


@functools.cache
def _system() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts

    files = sorted(findSystemFonts(), key=lambda file: (_LIKELY.search(file.lower()) is None, file))
    return tuple(files[:_MOST_FONTS])


@functools.cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def _tell(kind: str, message: str) -> None:
    if kind not in _told:
        _told.add(kind)
        warnings.warn(message, stacklevel=2)
