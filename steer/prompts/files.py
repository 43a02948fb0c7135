"""Prompt files: text, JSON lines, JSON, CSV, TSV and Parquet, row by row, each row with its place in the file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from steer.errors import SteerError, message_of
from steer.prompts.prompt import KnownIds, Prompt
from steer.prompts.rows import from_flags, from_row, is_flags

PROMPT_SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")

Rows = Iterator[tuple[str, Callable[[], Prompt]]]
"""Where each row stands, and what makes a prompt of it or raises ``SteerError``."""


@dataclass(frozen=True)
class Collected:
    """What prompt files hold.

    Attributes:
        prompts: those that can be read, with distinct ids.
        bad: what is wrong with the other rows.
    """

    prompts: list[Prompt]
    bad: list[SteerError]


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read a prompt file, a path or an fsspec URL, whose suffix says what it is (:data:`PROMPT_SUFFIXES`).

    Raises:
        SteerError: naming the file, the line and what was expected.
    """
    return collect([path]).prompts


def parse_prompts(data: bytes, *, name: str, kind: str = "txt") -> list[Prompt]:
    """Parse the content of a prompt file; ``kind`` is its suffix and ``name`` is used in messages."""
    return _collect(_rows(data, name, kind), skip_bad=False, what=name).prompts


def collect(paths: Iterable[str | Path], *, skip_bad: bool = False) -> Collected:
    """Read several prompt files as one.

    Args:
        paths: files and fsspec URLs; ``-`` is stdin, as text or JSON lines.
        skip_bad: leave out rows that cannot be read, or have the id of an earlier one, instead of raising.

    Raises:
        SteerError: for a file that cannot be read at all or that holds no prompt, and for the first bad row.
    """
    paths = list(paths)
    rows = (row for path in paths for row in _file_rows(path))
    return _collect(rows, skip_bad, " and ".join(map(str, paths)))


def _collect(rows: Rows, skip_bad: bool, what: str) -> Collected:
    known = KnownIds()
    prompts: list[Prompt] = []
    bad: list[SteerError] = []
    for where, make in rows:
        try:
            prompts.append(known.add(make(), where))
        except SteerError as error:
            if not skip_bad:
                raise
            bad.append(error)
    if not prompts:
        raise SteerError(
            f"prompt file {what} holds no prompt{' that can be read' if bad else ''}; expected at least one"
        )
    return Collected(prompts, bad)


def _file_rows(path: str | Path) -> Rows:
    name = str(path)
    kind = Path(name).suffix.lower().removeprefix(".")
    try:
        if name == "-":
            data = sys.stdin.buffer.read()
            return _rows(data, "stdin", "jsonl" if data.lstrip().startswith(b"{") else "txt")
        if "://" in name:
            data = _fetched(name)
            return _parquet_rows(io.BytesIO(data), name) if kind == "parquet" else _rows(data, name, kind)
        if kind == "parquet":
            return _parquet_rows(path, name)
        return _rows(Path(path).read_bytes(), name, kind)
    except FileNotFoundError:
        raise SteerError(f"prompt file {name} does not exist") from None
    except OSError as error:
        raise SteerError(f"prompt file {name} cannot be read ({error.strerror or error})") from None


def _fetched(url: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(url) as file:
            data: bytes = file.read()
    except (ValueError, ImportError) as error:
        raise SteerError(f"prompt file {url} cannot be read ({message_of(error)})") from None
    return data


def _rows(data: bytes, name: str, kind: str) -> Rows:
    if kind in ("txt", ""):
        return _text_rows(data, name)
    if kind == "jsonl":
        return _jsonl_rows(data, name)
    if kind == "json":
        return _json_rows(data, name)
    if kind in ("csv", "tsv"):
        return _table_rows(data, name, "," if kind == "csv" else "\t")
    raise SteerError(f"prompt file {name}: got the suffix .{kind}, expected {', '.join(PROMPT_SUFFIXES)}")


def _text_rows(data: bytes, name: str) -> Rows:
    for line, where in _lines(data, name):
        yield where, partial(_from_line, line, where)


def _from_line(data: bytes, where: str) -> Prompt:
    line = _decoded(data, where).strip()
    return from_flags(line, where) if is_flags(line) else Prompt(line)


def _jsonl_rows(data: bytes, name: str) -> Rows:
    for line, where in _lines(data, name):
        yield where, partial(_from_json_line, line, where)


def _from_json_line(data: bytes, where: str) -> Prompt:
    return from_row(_json(_decoded(data, where), where), where)


def _json_rows(data: bytes, name: str) -> Rows:
    rows = _json(_decoded(data.removeprefix(b"\xef\xbb\xbf"), name), name)
    if not isinstance(rows, list):
        raise SteerError(f"{name}: got a JSON {type(rows).__name__}, expected a list of prompts")
    for number, row in enumerate(rows, 1):
        where = f"{name}, entry {number}"
        yield where, partial(from_row, row, where)


def _table_rows(data: bytes, name: str, delimiter: str) -> Rows:
    text = _decoded(data.removeprefix(b"\xef\xbb\xbf"), name)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [column.strip() for column in next(reader, [])]
        if not {"prompt", "text"} & set(map(str.lower, header)):
            raise SteerError(
                f"{name}: its columns are {', '.join(header)[:100] or 'none'}, expected one named 'prompt'"
            )
        first = reader.line_num + 1
        for cells in reader:
            where, first = f"{name}, line {first}", reader.line_num + 1
            if any(cell.strip() for cell in cells):
                yield where, partial(_from_cells, header, cells, where)
    except csv.Error as error:
        raise SteerError(f"{name}, line {reader.line_num}: not a table ({error})") from None


def _from_cells(header: list[str], cells: list[str], where: str) -> Prompt:
    if len(cells) > len(header):
        raise SteerError(
            f"{where}: {len(cells)} cells under {len(header)} columns; quote texts that hold the delimiter"
        )
    return from_row(dict(zip(header, cells, strict=False)), where, typed=False)


def _parquet_rows(source: Any, name: str) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SteerError(f"prompt file {name}: reading Parquet takes pyarrow; pip install pyarrow") from None
    try:
        file = pyarrow.parquet.ParquetFile(source)
    except pyarrow.ArrowException as error:
        raise SteerError(f"prompt file {name} cannot be read as Parquet: {message_of(error)}") from None
    return _arrow_rows(file, name)


def _arrow_rows(file: Any, name: str) -> Rows:
    number = 0
    for batch in file.iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            number += 1
            where = f"{name}, row {number}"
            yield where, partial(from_row, row, where, typed=False)


def _lines(data: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    """Split into lines that are not blank, numbered as an editor does (text may hold U+2028 and its kind)."""
    plain = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for number, line in enumerate(plain.split(b"\n"), 1):
        if line.strip():
            yield line, f"{name}, line {number}"


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SteerError(f"{where} cannot be read ({error}); expected text in UTF-8") from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # a whole file's JSON is placed by the line in it, a line's by the line's own number
        place = where if ", line " in where else f"{where}, line {error.lineno}"
        raise SteerError(f"{place}: not JSON ({error.msg} at column {error.colno})") from None
    except (RecursionError, ValueError):  # nested beyond reason, or a number of thousands of digits
        raise SteerError(f"{where}: JSON too deep or with too long a number to be read") from None
