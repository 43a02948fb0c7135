"""Standard output and error: they never cost finished work, and what programs read is steer's alone."""

from __future__ import annotations

import csv
import ctypes
import io
import os
import select
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

import click

from steer.settings.strict_json import json_text

BROKEN_PIPE = 141
"""Exit code if the reader of stdout went away: what shells say of a process that SIGPIPE ended."""


class Stream(io.RawIOBase):
    """A standard stream that raises no error: a full disk or a reader that went away must not end the work.

    Attributes:
        raw: where bytes go.
        lost: the first error; what comes after it is dropped.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self.raw = raw
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes, or drop them."""
        try:
            while self.lost is None:
                written = self.raw.write(data)
                if written is not None:
                    return written
                select.select([], [self.raw], [])  # a pipe that does not block is full
        except OSError as error:
            self.lost = error
        return len(data)

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.raw.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.raw.isatty()


class Text(io.TextIOWrapper):
    """A standard stream that stays open: a plugin that closes it must not end the work."""

    def close(self) -> None:
        """Write what is buffered."""
        self.flush()


def guard() -> None:
    """Make this process's standard streams safe; for the beginning of a process that runs one command.

    A stream that was closed is the null device, lest the next file that is opened take its descriptor. Letters that
    an encoding lacks are escaped.
    """
    with suppress(OSError):
        while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(null)
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        if old is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif old is getattr(sys, f"__{name}__"):
            stream = Stream(getattr(old.buffer, "raw", old.buffer))
            how = {"errors": "backslashreplace", "line_buffering": old.line_buffering or old.write_through}
            setattr(sys, name, Text(io.BufferedWriter(stream), old.encoding, **how))


def end() -> int:
    """Return the exit code that stdout gives to a command that ended well; what is printed later goes to stderr."""
    sys.stderr.flush()
    sys.stdout.flush()
    stream = _stream(sys.stdout)
    if stream is None:
        return 0
    sys.stdout = sys.stderr
    with suppress(OSError):
        os.dup2(2, 1)
    if stream.lost is None:
        return 0
    if isinstance(stream.lost, BrokenPipeError):
        return BROKEN_PIPE
    click.echo(f"steer: error: stdout cannot be written to ({stream.lost.strerror}); files are complete", err=True)
    return 1


def _stream(text: TextIO) -> Stream | None:
    raw = getattr(getattr(text, "buffer", None), "raw", None)
    return raw if isinstance(raw, Stream) else None


_reserved: list[TextIO] = []
"""The stdout that only :func:`put` writes to, if there is one."""


@contextmanager
def reserved() -> Iterator[None]:
    """Keep stdout for :func:`put`: what anything else prints, C code and child processes included, goes to stderr."""
    own, stream = sys.stdout, _stream(sys.stdout)
    own.flush()
    kept = os.dup(1)
    if stream is not None:
        first, stream.raw = stream.raw, io.FileIO(kept, "w", closefd=False)
    os.dup2(2, 1)
    _reserved.append(own)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _reserved.pop()
        own.flush()
        with suppress(OSError, TypeError, AttributeError):  # what C code printed waits in a buffer of its own
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        if stream is not None:
            stream.raw = first


def put(data: str | bytes) -> None:
    """Write to stdout, whether it is reserved or not, and hand it over at once."""
    click.echo(data, file=_reserved[0] if _reserved else None, nl=False)


def put_json(data: Any, *, indent: int | None = 1) -> None:
    """Write data and a line's end to stdout as JSON, in ASCII."""
    put(f"{json_text(data, indent=indent)}\n")


def put_csv(rows: Iterable[Iterable[Any]]) -> None:
    """Write rows, the head first, to stdout as CSV in UTF-8; bytes of file names that are no text are escaped."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    put(text.getvalue().encode("utf-8", "backslashreplace"))


def reserve(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """As the callback of an option: if it is given, keep stdout reserved until the command ends."""
    if value:
        context.with_resource(reserved())
    return value


json_option = click.option("--json", "as_json", is_flag=True, callback=reserve, help="Print as JSON on stdout.")
csv_option = click.option("--csv", "as_csv", is_flag=True, callback=reserve, help="Print as CSV on stdout.")
