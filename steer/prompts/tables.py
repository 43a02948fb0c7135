"""Tables as text: CSV and TSV, as Excel, pandas, R and editors write them.

Rows are never guessed. In CSV, a cell that begins with a quote must end with one. In TSV, which many programs write
without quoting, quotes count only around a whole cell; elsewhere they are plain characters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.prompts.reading_options import MakeRow, Reading, Rows
from steer.settings.text_files import check_line, read_text

DELIMITERS = (",", ";", "\t", "|")

_SEP = re.compile(r'\ufeff?"?sep=([^\w\s"]|\t)"?[;,\t]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
"""A first line that tells Excel the delimiter."""
_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_LINE = re.compile(r"[^\r\n]*+")
_BREAK = re.compile(r"\r\n|\r|\n")
_BLANK = re.compile(r"[ \t\f\v]*(?:\r\n|\r|\n)")
_SPACES = re.compile(r'[ ]*+(?=")')


@dataclass(frozen=True)
class Record:
    """A row of a table.

    Attributes:
        line: the number of its first line, from 1.
        cells: its cells.
        broken: the fault of a row that cannot be split into cells, else empty.
        end: where the next row begins in the text.
        next_line: the number of that line.
    """

    line: int
    cells: list[str]
    broken: str
    end: int
    next_line: int


def table_rows(text: str, name: str, delimiter: str, reading: Reading, make: MakeRow) -> Rows:
    """Read a table under a header.

    Args:
        text: the file's text.
        name: the file's name, for messages.
        delimiter: what the suffix suggests; the header decides, unless a first line ``sep=;`` does.
        reading: how the file is read.
        make: makes a prompt of a row's cells by column.

    Raises:
        SteerError: if no column holds prompts, or two columns have the same name.
    """
    start, line, fixed = 0, 1, _SEP.match(text)
    if fixed:
        start, line, delimiter = fixed.end(), 2, fixed[1]
    head, delimiter = _header(text, start, line, name, [delimiter] if fixed else _likely(delimiter), reading)
    columns = _columns(head, name, reading)
    for record in _records(text, head.end, head.next_line, delimiter, len(columns)):
        where = f"{name}, line {record.line}"
        if record.broken or any(cell.strip() for cell in record.cells):
            yield where, partial(_made, record, columns, name, reading, make)


def read_table(path: Path, what: str, reading: Reading) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a CSV or TSV file by column, each with its place, by the same rules.

    Args:
        path: the file.
        what: the kind of the file, for messages.
        reading: names a column that must be there.

    Raises:
        SteerError: naming the line that cannot be read.
    """
    rows: list[tuple[str, dict[str, Any]]] = []

    def keep(row: dict[str, Any], where: str) -> Prompt:
        rows.append((where, row))
        return Prompt("")

    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    for _, make in table_rows(read_text(path, what), f"{what} {path}", delimiter, reading, keep):
        make()
    return rows


def _likely(delimiter: str) -> list[str]:
    return [delimiter, *(other for other in DELIMITERS if other != delimiter)]


def _header(text: str, start: int, line: int, name: str, delimiters: list[str], reading: Reading) -> tuple[Record, str]:
    """Return the header and the delimiter under which it names a column of prompts."""
    while blank := _BLANK.match(text, start):
        start, line = blank.end(), line + 1
    found = [(_record(text, start, line, delimiter, 0), delimiter) for delimiter in delimiters]
    whole = [(record, delimiter) for record, delimiter in found if not record.broken]
    for record, delimiter in whole:
        if reading.text_keys(_named(record.cells)):
            return record, delimiter
    if found[0][0].broken:
        raise SteerError(f"{name}, line {line}: {found[0][0].broken}")
    check_line(text[start : whole[0][0].end], f"{name}, line {line}")
    widest, _ = max(whole, key=lambda pair: len(pair[0].cells))
    raise reading.no_text(f"{name}, line {line}", [cell for cell in _named(widest.cells) if cell], "columns")


def _named(cells: list[str]) -> list[str]:
    return [cell.strip().strip("\ufeff").strip() for cell in cells]


def _columns(head: Record, name: str, reading: Reading) -> list[str]:
    """Return a name for every column; one without a name (pandas' index) is named by its number."""
    where = f"{name}, line {head.line}"
    columns = [cell or f"column {number}" for number, cell in enumerate(_named(head.cells), 1)]
    check_line("".join(columns), where)
    ((column, times),) = Counter(columns).most_common(1)
    if times > 1:
        raise SteerError(f"{where}: two columns are named {column[:60]!r}; rename one, so that none is lost")
    return columns


def _made(record: Record, columns: list[str], name: str, reading: Reading, make: MakeRow) -> Prompt:
    where = f"{name}, line {record.line}"
    if record.broken:
        raise SteerError(f"{where}: {record.broken}")
    cells = record.cells
    check_line("".join(cells), where)
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise SteerError(
            f"{where}: {len(cells)} cells under {len(columns)} columns; quote texts that hold the delimiter"
        )
    if len(cells) < len(columns):
        held = f"{where}: holds {len(cells)} of {len(columns)} cells"
        reading.tell(f"few {name}", f"{held}; those missing count as empty, here and in other rows")
    cells = [cells[0].removeprefix("\ufeff"), *cells[1:]]
    return make(dict(zip(columns, cells, strict=False)), where)


def _records(text: str, start: int, line: int, delimiter: str, width: int) -> Iterator[Record]:
    """Yield the rows from ``start`` on; after a broken row, reading continues with the next line."""
    while start < len(text):
        record = _record(text, start, line, delimiter, width)
        yield record
        start, line = record.end, record.next_line


def _record(text: str, start: int, line: int, delimiter: str, width: int) -> Record:
    """Read the row that begins at ``start``; ``width`` is the number of columns, 0 for the header."""
    return (_literal if delimiter == "\t" else _strict)(text, start, line, delimiter, width)


def _strict(text: str, start: int, line: int, delimiter: str, width: int) -> Record:
    """Read a row by the rules of RFC 4180, except that spaces around a quoted cell are ignored."""
    cells: list[str] = []
    place, begin = start, line
    cell, end = _patterns(delimiter)
    while True:
        indented = _SPACES.match(text, place)
        opening = indented.end() if indented else -1
        quoted = _QUOTED.match(text, opening) if indented else None
        closed = end.match(text, quoted.end()) if quoted else None
        if quoted and closed:
            cells.append(quoted[1].replace('""', '"'))
            line += len(_BREAK.findall(quoted[0]))
        elif opening == place:
            wrong = "text follows the quote that closes it" if quoted else "it is never closed"
            following = _BREAK.search(text, opening)
            return Record(
                line,
                [],
                f'a quote opens a cell here, and {wrong}; write a quote within a text as ""',
                following.end() if following else len(text),
                line + 1,
            )
        else:
            unquoted = cell.match(text, place)
            assert unquoted is not None  # it also matches an empty text
            cells.append(unquoted[0])
            closed = end.match(text, unquoted.end())
            assert closed is not None
        place = closed.end()
        if not closed[0].endswith(delimiter):
            return Record(begin, cells, "", place, line + 1)


@lru_cache
def _patterns(delimiter: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of an unquoted cell and of a cell's end."""
    sign = re.escape(delimiter)
    return re.compile(rf"[^{sign}\r\n]*+"), re.compile(rf"[ ]*+(?:{sign}|\r\n|\r|\n|\Z)")


def _literal(text: str, start: int, line: int, delimiter: str, width: int) -> Record:
    """Read a row in which only a quote around a whole cell counts.

    A quoted cell may hold tabs and line breaks. But if the lines are whole rows without quoting, they are read as such:
    a quote at the start of a text must not swallow the rows that follow.
    """
    plain = _physical(text, start, line, delimiter)
    if width and any(cell.startswith('"') for cell in plain.cells):
        quoted = _strict(text, start, line, delimiter, width)
        if not quoted.broken and len(quoted.cells) == width and quoted.end >= plain.end:
            rows = [plain]
            while rows[-1].end < quoted.end:
                rows.append(_physical(text, rows[-1].end, rows[-1].next_line, delimiter))
            if any(len(row.cells) != width for row in rows):
                return quoted
    return Record(line, [_unquoted(cell) for cell in plain.cells], "", plain.end, plain.next_line)


def _physical(text: str, start: int, line: int, delimiter: str) -> Record:
    """Split one line and ignore its quotes."""
    found = _LINE.match(text, start)
    assert found is not None  # it matches an empty line too
    ended = _BREAK.match(text, found.end())
    return Record(line, found[0].split(delimiter), "", ended.end() if ended else len(text), line + 1)


def _unquoted(cell: str) -> str:
    whole = _QUOTED.fullmatch(cell.strip())
    return whole[1].replace('""', '"') if whole else cell
