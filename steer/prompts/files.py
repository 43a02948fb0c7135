"""Prompt files: text, JSON lines, JSON, CSV, TSV and Parquet, row by row, each row with its place in the file."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.prompts.flags import flags_row, is_flags
from steer.prompts.objects import document_rows, holds_lines, line_rows
from steer.prompts.odd_lines import tell_foreign
from steer.prompts.parquet import parquet_rows
from steer.prompts.prompt import KnownIds, Prompt
from steer.prompts.reading_options import Reading, Rows
from steer.prompts.rows import OWN, from_row
from steer.prompts.tables import table_rows
from steer.settings.folders import files_in
from steer.settings.text_files import check_line, decoded, lines_of, loosely_decoded, read_bytes

PROMPT_SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")

_SAME = {"": "txt", "ndjson": "jsonl", "tab": "tsv"}
"""Other suffixes of the same kinds."""

_REMEDIES = {
    **dict.fromkeys(("xls", "xlsx", "ods", "numbers"), "save the sheet as CSV (in Excel: CSV UTF-8)"),
    **dict.fromkeys(("gz", "bz2", "xz", "zip", "zst"), "unpack it"),
    **dict.fromkeys(("yaml", "yml", "toml"), "write its prompts as lines of text or JSON"),
}
"""How to convert files of kinds that steer does not read."""


@dataclass(frozen=True)
class Collected:
    """The content of prompt files.

    Attributes:
        prompts: the readable ones, with distinct ids.
        bad: the errors of the other rows.
    """

    prompts: list[Prompt]
    bad: list[SteerError]


def read_prompts(
    path: str | Path, *, column: str | None = None, wrap_seeds: bool = False, wildcards: bool = False
) -> list[Prompt]:
    """Read a prompt file, whose suffix gives its format (:data:`PROMPT_SUFFIXES`), or a folder of ``.txt`` files.

    Args:
        path: a path or an fsspec URL.
        column: the column or key that holds the prompts; by default ``prompt``, ``text``, ``caption`` and their
            plurals are known.
        wrap_seeds: take seeds beyond 2³²−1 modulo 2³².
        wildcards: ``__name__`` and ``{a|b}`` are expected, so do not warn of them.

    Raises:
        SteerError: naming the file, the line and what was expected.
    """
    return collect([path], column=column, wrap_seeds=wrap_seeds, wildcards=wildcards).prompts


def parse_prompts(data: bytes, *, name: str, kind: str = "txt") -> list[Prompt]:
    """Parse the content of a prompt file; ``kind`` is its suffix and ``name`` is used in messages."""
    return _collect(_rows(data, name, kind, Reading()), skip_bad=False, what=name).prompts


def collect(
    paths: Iterable[str | Path],
    *,
    skip_bad: bool = False,
    column: str | None = None,
    wrap_seeds: bool = False,
    wildcards: bool = False,
) -> Collected:
    """Read several prompt files as one.

    Args:
        paths: files, fsspec URLs and folders of ``.txt`` files; ``-`` is stdin, as text or JSON lines.
        skip_bad: leave out rows that cannot be read, or have the id of an earlier one, instead of raising.
        column: the column or key that holds the prompts.
        wrap_seeds: take seeds beyond 2³²−1 modulo 2³².
        wildcards: ``__name__`` and ``{a|b}`` are expected, so do not warn of them.

    Raises:
        SteerError: if a file cannot be read or no file holds a prompt, and for the first bad row.
    """
    paths = list(paths)
    reading = Reading(column, wrap_seeds, wildcards)
    rows = (row for path in paths for row in _placed(path, _file_rows(path, reading)))
    return _collect(rows, skip_bad, " and ".join(map(str, paths)))


def _placed(path: str | Path, rows: Rows) -> Rows:
    """Have prompts know the folder of their file."""
    name = str(path)
    if name == "-" or "://" in name:
        yield from rows
        return
    folder = str(Path(name) if Path(name).is_dir() else Path(name).parent)
    for where, make in rows:
        yield where, lambda make=make: make().having(folder=folder)  # type: ignore[misc]


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


def _file_rows(path: str | Path, reading: Reading) -> Rows:
    name = str(path)
    if name == "-":
        data = sys.stdin.buffer.read()
        text = loosely_decoded(data, "stdin")
        return _rows(data, "stdin", "jsonl" if text.lstrip("\ufeff \t\r\n").startswith("{") else "txt", reading)
    if "://" not in name and Path(name).is_dir():
        return _folder_rows(Path(name), reading)
    kind = _kind(name)
    if kind == "parquet":
        source = io.BytesIO(read_bytes(name, "prompt file")) if "://" in name else path
        return parquet_rows(source, name, reading, OWN, partial(from_row, typed=False, reading=reading))
    return _rows(read_bytes(name, "prompt file"), name, kind, reading)


def _kind(name: str) -> str:
    """Return the kind that a file's suffix names; a URL's query, which a download may keep, is ignored."""
    place = re.split(r"[?#]|::", name)[0] if "://" in name else name
    suffix = Path(place).suffix.lower()
    if suffix not in PROMPT_SUFFIXES and "?" in place:
        suffix = Path(place.partition("?")[0]).suffix.lower()
    kind = suffix.removeprefix(".")
    return _SAME.get(kind, kind)


def _rows(data: bytes, name: str, kind: str, reading: Reading) -> Rows:
    kind = _SAME.get(kind, kind)
    if f".{kind}" not in PROMPT_SUFFIXES or kind == "parquet":
        remedy = f"; {_REMEDIES[kind]}" if kind in _REMEDIES else ""
        raise SteerError(f"prompt file {name}: got the suffix .{kind}, expected {', '.join(PROMPT_SUFFIXES)}{remedy}")
    typed, cells = partial(from_row, reading=reading), partial(from_row, typed=False, reading=reading)
    if kind == "txt":
        return _text_rows(_lines(data, name), name, reading)
    if kind == "jsonl":
        return line_rows(_lines(data, name), typed)
    if kind == "json":
        text = decoded(data, name).lstrip("\ufeff")
        return line_rows(_lines(data, name), typed) if holds_lines(text) else document_rows(text, name, reading, typed)
    return table_rows(loosely_decoded(data, name), name, "," if kind == "csv" else "\t", reading, cells)


def _text_rows(lines: Iterable[tuple[str, str]], name: str, reading: Reading) -> Rows:
    if reading.column is not None:
        raise SteerError(f"{name}: lines of text have no columns; leave --column out, or give a table or JSON")
    lines = [(line.strip(), where) for line, where in lines]
    tell_foreign([(line, where) for line, where in lines if not is_flags(line)], name, reading)
    for line, where in lines:
        yield where, partial(_from_line, line, where, reading)


def _from_line(line: str, where: str, reading: Reading) -> Prompt:
    check_line(line, where)
    row: Any = flags_row(line, where, reading) if is_flags(line) else line
    return from_row(row, where, typed=False, reading=reading)


def _folder_rows(folder: Path, reading: Reading) -> Rows:
    """Read a folder with one prompt in each ``.txt`` file, whose name is its id (DPG-Bench)."""
    if reading.column is not None:
        raise SteerError(f"{folder}: files of text have no columns; leave --column out")
    try:
        next(folder.iterdir(), None)  # raises for a folder that the walk would find empty
        files = files_in(folder, [".txt"], below=False)
    except OSError as error:
        raise SteerError(f"prompt folder {folder} cannot be read ({error.strerror})") from None
    if not files:
        raise SteerError(
            f"prompt folder {folder} holds no .txt file; expected one for each prompt, or name a prompt file"
        )
    for file in files:
        yield str(file), partial(_from_file, file, reading)


def _from_file(file: Path, reading: Reading) -> Prompt:
    where = str(file)
    text = decoded(read_bytes(file, "prompt file"), where).strip().strip("\ufeff").strip()
    row = flags_row(text, where, reading) if is_flags(text) else {"prompt": text}
    return from_row({"id": file.stem, **row}, where, typed=False, reading=reading)


def _lines(data: bytes, name: str) -> Iterator[tuple[str, str]]:
    """Split into non-blank lines."""
    for number, line in enumerate(lines_of(loosely_decoded(data, name)), 1):
        line = line.lstrip("\ufeff")  # joined files hold byte order marks in their middle
        if line.strip():
            yield line, f"{name}, line {number}"
