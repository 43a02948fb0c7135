"""Reading small text files in any Unicode encoding.

Prompt files, run files, ``steer.toml``, ``steer.json`` and metadata come from Excel, Notepad and PowerShell too: a byte
order mark says how a file is encoded and is not part of its text. A file without one must be UTF-8: other encodings
cannot be told apart, and a wrong guess changes the text.
"""

import codecs
import re
from pathlib import Path

from steer.errors import SteerError, cause_of

PATIENCE = 20.0
"""Seconds until a web server that says nothing is given up."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's mark, so it is checked first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

REMEDY = (
    "expected UTF-8 text: save it as UTF-8 (in Excel: CSV UTF-8), or convert it: iconv -f cp1252 -t utf-8 OLD > NEW"
)


def read_bytes(place: str | Path, what: str) -> bytes:
    """Return the bytes at a path or an fsspec URL.

    Args:
        place: the path or URL.
        what: the kind of the file, for messages, such as ``"config file"``.

    Raises:
        SteerError: naming the place, if it does not exist or cannot be read.
    """
    shown = str(place).partition("?")[0] if "://" in str(place) else place  # a query may hold a key
    try:
        if "://" not in str(place):
            return Path(place).read_bytes()
        if str(place).startswith(("http://", "https://")):
            import urllib.request

            with urllib.request.urlopen(str(place), timeout=PATIENCE) as answer:
                return bytes(answer.read())
        import fsspec

        with fsspec.open(str(place)) as file:
            return bytes(file.read())
    except Exception as error:  # fsspec's drivers raise the errors of their client libraries
        if isinstance(error, FileNotFoundError) and error.__cause__ is None:
            raise SteerError(f"{what} {shown} does not exist") from None
        reason = cause_of(error)
        if "://" not in str(place) and isinstance(error, OSError) and error.strerror:
            reason = error.strerror
    raise SteerError(f"{what} {shown} cannot be read ({reason})")


def read_text(place: str | Path, what: str) -> str:
    """Return the text at a path or an fsspec URL, without a byte order mark.

    Raises:
        SteerError: naming the place, if it cannot be read or is not Unicode.
    """
    return decoded(read_bytes(place, what), f"{what} {place}")


def lines_of(text: str) -> list[str]:
    """Split a text into lines as an editor does: U+2028, form feeds and the like are characters of a text."""
    return re.split(r"\r\n|\r|\n", text)


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file, in UTF-8 or as its byte order mark says.

    Raises:
        SteerError: naming the file and the line that is not Unicode.
    """
    text = loosely_decoded(data, name)
    if (first := _first_bad(text)) is not None:
        line = text.count("\n", 0, first) + 1
        check_line(text[first], f"{name}, line {line}")
    return text


def loosely_decoded(data: bytes, name: str) -> str:
    """Return text in which bytes that are not UTF-8 are marked, so that :func:`check_line` finds their line.

    Raises:
        SteerError: if a file with a UTF-16 or UTF-32 byte order mark is damaged, because its text cannot be trusted.
    """
    mark, encoding = next((pair for pair in _MARKS if data.startswith(pair[0])), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        text = data.decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
        return text.lstrip("\ufeff")  # some programs write the mark before a text that has one
    except UnicodeDecodeError as error:
        raise SteerError(f"{name} cannot be read ({error.reason} in {encoding.upper()}); {REMEDY}") from None


def check_line(line: str, where: str) -> str:
    """Return a line after checking that it is text.

    Raises:
        SteerError: if it holds bytes that are not UTF-8, or NUL as UTF-16 without a mark does.
    """
    if (first := _first_bad(line)) is None:
        return line
    if line[first] == "\0":
        raise SteerError(f"{where} cannot be read: it holds NUL, as UTF-16 without a byte order mark does; {REMEDY}")
    raise SteerError(f"{where} cannot be read: byte 0x{ord(line[first]) - 0xDC00:02x} is not UTF-8; {REMEDY}")


def _first_bad(text: str) -> int | None:
    """Return the index of the first character that is not text."""
    found = [place for place in (text.find("\0"), _surrogate(text)) if place >= 0]
    return min(found, default=None)


def _surrogate(text: str) -> int:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return -1
