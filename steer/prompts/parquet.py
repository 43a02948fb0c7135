"""Parquet tables, read batch by batch; bytes such as a data set's images are left in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from steer.errors import SteerError, message_of
from steer.prompts.reading_options import MakeRow, Reading, Rows

BATCH = 1024


def parquet_rows(source: Any, name: str, reading: Reading, known: frozenset[str], make: MakeRow) -> Rows:
    """Read a Parquet file.

    Args:
        source: its path, or the file in memory.
        name: for messages.
        reading: how the file is read.
        known: names of known columns, in lower case; old writers mark their text as bytes.
        make: makes a prompt of a row.

    Raises:
        SteerError: if it is damaged or not Parquet, or no column holds prompts.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SteerError(f"prompt file {name}: reading Parquet needs pyarrow; pip install pyarrow") from None
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            columns = file.schema_arrow.names
            if not (texts := reading.text_keys(columns)):
                raise reading.no_text(name, columns, "columns")
            if len(set(columns)) < len(columns):
                twice = next(column for column in columns if columns.count(column) > 1)
                raise SteerError(f"{name}: two columns are named {twice!r}; rename one, so that none is lost")
            texts += [column for column in columns if column.strip().lower() in known]
            for number, row in enumerate(_plain_rows(file, name, reading, texts), 1):
                where = f"{name}, row {number}"
                yield where, partial(make, row, where)
    except FileNotFoundError:
        raise SteerError(f"prompt file {name} does not exist") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # invalid UTF-8 is a ValueError
        raise SteerError(f"prompt file {name} cannot be read as Parquet: {message_of(error)}") from None


def _plain_rows(file: Any, name: str, reading: Reading, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows without bytes, and times as text, because Python cannot hold every time."""
    kept: list[str] = []
    dropped: list[str] = []
    for field in file.schema_arrow:
        if field.name in texts:
            kept.append(field.name)
        else:
            _sort(field, field.name, kept, dropped)
    if dropped:
        reading.tell(
            f"bytes {name}",
            f"{name}: columns of bytes are left out: {', '.join(dropped)[:200]}",
        )
    for batch in file.iter_batches(batch_size=BATCH, columns=kept):
        columns = [_readable(column) for column in batch.columns]
        for cells in zip(*(column.to_pylist() for column in columns), strict=True):
            yield dict(zip(batch.schema.names, cells, strict=True))


def _readable(column: Any) -> Any:
    import pyarrow

    if pyarrow.types.is_temporal(column.type) or _bytes_in(column.type):
        return column.cast(pyarrow.string())
    return column


def _sort(field: Any, path: str, kept: list[str], dropped: list[str]) -> None:
    """Sort columns by whether they hold bytes; of a data set's image, the path is kept and the bytes are dropped."""
    import pyarrow

    if not _bytes_in(field.type):
        kept.append(path)
    elif pyarrow.types.is_struct(field.type):
        for part in field.type:
            _sort(part, f"{path}.{part.name}", kept, dropped)
    else:
        dropped.append(path)


def _bytes_in(kind: Any) -> bool:
    """Whether values of a type are or contain bytes."""
    import pyarrow

    types = pyarrow.types
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_bytes_in(kind.field(index).type) for index in range(kind.num_fields))
