"""Who may write where: a folder of its own for every run, and no file replaced that nobody gave up."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from steer.errors import SteerError
from steer.results.names import RESULT
from steer.results.storage import Storage

MARKS = {
    RESULT: "generate",
    "run.toml": "render",
    "journal.jsonl": "render",
    "compare.json": "compare",
    "bench.json": "bench",
    "recipe.json": "train",
}
"""Files that tell which command a folder belongs to."""


def numbered(wanted: Path) -> Iterator[Path]:
    """Yield a folder's name, and then without end the same with a number behind it."""
    yield wanted
    yield from (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))


@contextmanager
def new_folder(wanted: Path) -> Iterator[str]:
    """Make a folder that no other process has, ``wanted`` or with a number behind it; a block that leaves it empty
    leaves nothing.

    Raises:
        SteerError: if it cannot be made.
    """
    fresh = [folder for folder in wanted.parents if not folder.exists()]
    for folder in numbered(wanted):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            break
        except (FileExistsError, FileNotFoundError):  # the parent may have been removed as empty a moment ago
            for above in folder.parents:
                if os.path.lexists(above) and not above.is_dir():
                    what = "a link that leads nowhere" if above.is_symlink() else "a file"
                    raise SteerError(f"output folder {folder} cannot be made: {above} is {what}") from None
        except OSError as error:
            raise SteerError(
                f"output folder {folder} cannot be made ({error.strerror}); choose another --out"
            ) from None
    try:
        yield str(folder)
    finally:
        with contextlib.suppress(OSError):
            for empty in (folder, *fresh):
                empty.rmdir()


def check_others(storage: Storage, command: str) -> None:
    """Raise if a folder belongs to another command of steer.

    Raises:
        SteerError: naming the file that says so.
    """
    names = storage.sizes()
    for mark, owner in MARKS.items():
        if mark in names and owner != command:
            raise SteerError(f"output folder {storage.name} holds a {mark} of steer {owner}; choose another --out")


@contextmanager
def claimed(storage: Storage, written: Callable[[str], bool], *, force: bool) -> Iterator[None]:
    """Lock a folder within the block, for a command that writes files of its own there.

    Args:
        storage: the folder.
        written: whether the command writes a file of this name.
        force: replace such files.

    Raises:
        SteerError: if the folder cannot be written to, another process writes there, or such files are there.
    """
    storage.check()
    with storage.lock():
        there = sorted(filter(written, storage.sizes()))
        if there and not force:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise SteerError(
                f"output folder {storage.name} holds {there[0]}{more} of an earlier run; add --force to replace "
                f"{'them' if more else 'it'}, or choose another --out"
            )
        yield
