"""JSON: lists of prompts, objects by id, columns as pandas writes them, and JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.prompts.reading_options import MakeRow, Reading, Rows, kind_of
from steer.settings.text_files import check_line

SHAPES = 'a list of prompts, objects by id, or {"prompts": [...]}'


def line_rows(lines: Iterator[tuple[str, str]], make: MakeRow) -> Rows:
    """Read JSON lines, each with its place."""
    for line, where in lines:
        yield where, partial(_from_line, line, where, make)


def _from_line(line: str, where: str, make: MakeRow) -> Prompt:
    if line.strip() in ("{", "["):
        raise SteerError(f"{where}: not JSON lines; give a file with one JSON document the suffix .json")
    return make(parse(check_line(line, where), where), where)


def document_rows(text: str, name: str, reading: Reading, make: MakeRow) -> Rows:
    """Read one JSON document.

    Raises:
        SteerError: if it is not JSON, or of a shape without prompts.
    """
    for place, row in _entries(parse(text, name), name, reading):
        where = f"{name}, entry {place}"
        yield where, partial(make, row, where)


def holds_lines(text: str) -> bool:
    """Whether a file named ``.json`` holds JSON lines, as those that ``datasets`` writes do."""
    first, _, rest = text.strip().partition("\n")
    if not (first.startswith("{") and rest.lstrip().startswith("{")):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def parse(text: str, where: str) -> Any:
    """Parse JSON; NaN and infinite numbers are accepted here and handled later.

    Raises:
        SteerError: if the text is not JSON (names the line), or an object has a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise SteerError(f"{where}: an object has the key {twice[:60]!r} twice; keep one, so that none is lost")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=_number)
    except json.JSONDecodeError as error:
        # for a whole file, name the line of the error; a JSON line has a number already
        place = where if ", line " in where else f"{where}, line {error.lineno}"
        raise SteerError(f"{place}: not JSON ({error.msg} at column {error.colno})") from None
    except (RecursionError, ValueError):  # nested beyond reason, or a number of thousands of digits
        raise SteerError(f"{where}: JSON is nested too deep or holds a number with too many digits") from None


def _number(text: str) -> float | Decimal:
    """Return a number; one that only rounding makes whole keeps its digits, so that no seed is made of it."""
    number = float(text)
    with suppress(InvalidOperation):  # an exponent that nobody means
        if number.is_integer() and Decimal(text) % 1:
            return Decimal(text)
    return number


def _entries(data: Any, name: str, reading: Reading, *, outermost: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a document, each with its number or id."""
    if isinstance(data, list):
        yield from ((str(number), row) for number, row in enumerate(data, 1))
        return
    if not isinstance(data, dict):
        raise SteerError(f"{name}: got {kind_of(data)}, expected {SHAPES}")
    keys = reading.text_keys(data)
    if any(isinstance(data[key], str) for key in keys):
        raise SteerError(f"{name}: got one object with a prompt, expected {SHAPES}; put it into [ ]")
    columns = _split(data, name) or _columns(data, keys)
    if columns is not None:
        yield from columns
    elif outermost and (wrapped := _wrapped(data, keys, reading)) is not None:
        others = [key for key in data if key != wrapped]
        if others:
            told = f"{name}: prompts are read from {wrapped!r}; other keys are ignored"
            reading.tell(f"wrapped {name}", f"{told}: {', '.join(others)[:200]}")
        yield from _entries(data[wrapped], name, reading, outermost=False)
    elif _is_by_id(data, reading):
        yield from ((repr(key[:60]), _with_id(row, key)) for key, row in data.items())
    else:
        listing = ", ".join(data)[:200] or "none"
        raise SteerError(f"{name}: got an object with the keys {listing}, expected {SHAPES}")


def _split(data: Mapping[str, Any], name: str) -> list[tuple[str, Any]] | None:
    """Return the rows of ``{"columns": ["prompt", "seed"], "data": [["a", 1], ...]}``, pandas' ``orient="split"``."""
    columns, cells = data.get("columns"), data.get("data")
    if not (isinstance(columns, list) and isinstance(cells, list) and data.keys() <= {"columns", "index", "data"}):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in cells):
        raise SteerError(f"{name}: the rows of 'data' do not fit 'columns'; write it by orient='records'")
    if not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise SteerError(f"{name}: 'columns' are not distinct names; name them, or write it by orient='records'")
    return [(str(number), dict(zip(columns, row, strict=True))) for number, row in enumerate(cells, 1)]


def _columns(data: Mapping[str, Any], keys: list[str]) -> list[tuple[str, Any]] | None:
    """Return the rows of columns, ``{"prompt": [...], "seed": [...]}`` or by index ``{"prompt": {"0": ...}, ...}``."""
    kinds = {type(column) for column in data.values()}
    if not keys or len(data) < 2 or kinds not in ({list}, {dict}):
        return None
    by_id = kinds == {dict}
    indexes = {tuple(column) if by_id else tuple(range(len(column))) for column in data.values()}
    if len(indexes) > 1:
        return None
    index: tuple[Any, ...] = indexes.pop()
    if not all(isinstance(data[keys[0]][i], str | None) for i in index):
        return None
    rows = [(i, {key: column[i] for key, column in data.items()}) for i in index]
    return [(repr(i[:60]), _with_id(row, i)) if by_id else (str(i + 1), row) for i, row in rows]


def _wrapped(data: Mapping[str, Any], keys: list[str], reading: Reading) -> str | None:
    """Return the key that holds the rows: one that is named as prompts are, else the only one with a list of rows."""
    for key in keys:
        if isinstance(data[key], list | dict):
            return key
    lists = [key for key, value in data.items() if isinstance(value, list) and value]
    having = [key for key in lists if isinstance(data[key][0], dict) and reading.text_keys(data[key][0])]
    found = having or [key for key in lists if isinstance(data[key][0], str)]
    return found[0] if len(found) == 1 else None


def _is_by_id(data: Mapping[str, Any], reading: Reading) -> bool:
    texts = all(isinstance(row, str) for row in data.values())
    return bool(data) and (texts or any(isinstance(row, dict) and reading.text_keys(row) for row in data.values()))


def _with_id(row: Any, identity: str) -> Any:
    """Return a row with its key as the id, unless the row has an id of its own."""
    if isinstance(row, str):
        return {"prompt": row, "id": identity}
    if not isinstance(row, dict) or any(key.strip().lower() == "id" and row[key] is not None for key in row):
        return row
    return {**row, "id": identity}
