"""Values of rows: the same value means the same thing in every format of prompt files."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from typing import Any

from steer.errors import SteerError
from steer.prompts.prompt import MAX_SEED, check_seed
from steer.prompts.reading_options import Reading

MAX_DEPTH = 64
"""Deepest nesting of lists and objects in metadata; libraries fail on deeper ones."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d{1,3})?")
_MISSING = frozenset({"na", "n/a", "nan", "none", "null"})
"""Texts that R, pandas and databases write for a missing number."""
_EXACT = 2.0**53
"""Floats hold whole numbers below it exactly."""


def is_missing(value: Any) -> bool:
    """Whether the value of a number's key means a missing number."""
    return is_unset(value) or (isinstance(value, str) and value.strip().lower() in _MISSING)


def is_unset(value: Any) -> bool:
    """Whether a known key's value is unset: null, an empty cell, or NaN (pandas' mark of a missing number)."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def whole(value: Any, key: str, where: str) -> int:
    """Return a whole number, however it is written: 7, 7.0, ``"7"``, ``"7.0"``.

    Raises:
        SteerError: for anything else; 1.5 is never rounded, and true is not a number.
    """
    number = _from_text(value) if isinstance(value, str) else value
    if isinstance(number, float | decimal.Decimal) and math.isfinite(number) and number == int(number):
        return int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise SteerError(f"{where}: got {key} {_shown(value)}, expected a whole number")
    return number


def fraction(value: Any, key: str, where: str) -> float:
    """Return a number that may have a fraction.

    Raises:
        SteerError: for anything else, also for infinite numbers and true.
    """
    number = _from_text(value) if isinstance(value, str) else value
    try:
        number = math.nan if isinstance(number, bool | str) else float(number)
    except (TypeError, ValueError, OverflowError):  # text, a list, an integer of hundreds of digits
        number = math.nan
    if not math.isfinite(number):
        comma = isinstance(value, str) and _NUMBER.fullmatch(value.strip().replace(",", "."))
        hint = f", as in {value.strip().replace(',', '.')[:20]}" if comma else ""
        raise SteerError(f"{where}: got {key} {_shown(value)}, expected a number{hint}")
    return number


def own_seed(value: Any, where: str, *, wrap: bool = False) -> int | None:
    """Return a row's seed; −1 means that it has none, as in A1111 and ComfyUI.

    Args:
        value: of the row's key.
        where: the row, for messages.
        wrap: take a seed beyond 2³²−1 modulo 2³².

    Raises:
        SteerError: if it is not a seed.
    """
    seed = whole(value, "seed", where)
    if seed == -1:
        return None
    point = isinstance(value, float) or (isinstance(value, str) and not value.strip().lstrip("+").isdecimal())
    if point and seed >= _EXACT:
        raise SteerError(f"{where}: got seed {value!r}, which was rounded when it was saved; write all of its digits")
    if seed > MAX_SEED and wrap:
        return seed % (MAX_SEED + 1)
    return check_seed(seed, where, wrap="--wrap-seeds")


def plain(value: Any, where: str, reading: Reading, depth: int = 0) -> Any:
    """Return a value as strict JSON, for metadata: NaN and infinite numbers become null, dates become text.

    Raises:
        SteerError: for text that is not Unicode, and for nesting deeper than :data:`MAX_DEPTH`.
    """
    if isinstance(value, str):
        return unicode(value, where)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            reading.tell("infinite", f"{where}: holds an infinite number, which JSON cannot hold; it counts as null")
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH:
        raise SteerError(f"{where}: lists and objects are nested deeper than {MAX_DEPTH}; keep them flatter")
    if isinstance(value, dict):
        return {unicode(str(key), where): plain(part, where, reading, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, where, reading, depth + 1) for part in value]
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == int(value) else float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | uuid.UUID):
        return str(value)
    raise SteerError(f"{where}: holds a {type(value).__name__}, expected text, numbers, lists or objects")


def _from_text(text: str) -> Any:
    """Return a cell's number with all of its digits, or the text itself if it is not a number."""
    cell = text.strip().replace("\N{MINUS SIGN}", "-")
    return decimal.Decimal(cell) if _NUMBER.fullmatch(cell) else text


def unicode(text: str, where: str) -> str:
    """Return a text after checking that it is Unicode, because JSON can spell text that is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SteerError(f"{where}: its text {text[:60]!r} is not Unicode; save it as UTF-8") from None
    return text


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, decimal.Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
