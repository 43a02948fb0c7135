"""Parquet tables, read batch by batch; bytes such as a data set's images are left in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from steer.errors import SteerError, message_of
from steer.prompts.prompt import Prompt
from steer.prompts.reading import Reading, Rows

BATCH = 1024

MakeRow = Callable[[dict[str, Any], str], Prompt]
"""Makes a prompt of a row by column, and where it stands."""


def parquet_rows(source: Any, name: str, reading: Reading, known: frozenset[str], make: MakeRow) -> Rows:
    """Read a Parquet file.

    Args:
        source: its path, or the file in memory.
        name: for messages.
        reading: what was asked for.
        known: columns that mean something, in lower case: old writers mark their texts as bytes.
        make: makes a prompt of a row.

    Raises:
        SteerError: if it is damaged or none, or no column holds prompts.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SteerError(f"prompt file {name}: reading Parquet takes pyarrow; pip install pyarrow") from None
    try:
        file = pyarrow.parquet.ParquetFile(source)
        columns = file.schema_arrow.names
        if not reading.text_keys(columns):
            raise reading.no_text(name, columns, "columns")
        if len(set(columns)) < len(columns):
            twice = next(column for column in columns if columns.count(column) > 1)
            raise SteerError(f"{name}: two columns are named {twice!r}; rename one, so that none is lost")
        texts = {*reading.text_keys(columns), *(column for column in columns if column.strip().lower() in known)}
        for number, row in enumerate(_plain_rows(file, name, reading, texts), 1):
            where = f"{name}, row {number}"
            yield where, partial(make, row, where)
    except FileNotFoundError:
        raise SteerError(f"prompt file {name} does not exist") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # invalid UTF-8 is a ValueError
        raise SteerError(f"prompt file {name} cannot be read as Parquet: {message_of(error)}") from None


def _plain_rows(file: Any, name: str, reading: Reading, texts: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows without bytes; times, of which Python cannot hold every one, as text."""
    import pyarrow

    kept, dropped = [], []
    for field in file.schema_arrow:
        if field.name in texts or not _bytes_in(field.type):
            kept.append(field.name)
            continue
        dropped.append(field.name)
        if pyarrow.types.is_struct(field.type):  # an image of a data set has its path beside the bytes
            kept += [f"{field.name}.{part.name}" for part in field.type if not _bytes_in(part.type)]
    if dropped:
        reading.tell(
            f"bytes {name}",
            f"{name}: {', '.join(dropped)[:200]} holds bytes, which no prompt can carry; they are left out",
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


def _bytes_in(kind: Any) -> bool:
    """Whether values of a type are bytes, or hold some."""
    import pyarrow

    types = pyarrow.types
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_bytes_in(kind.field(index).type) for index in range(kind.num_fields))
