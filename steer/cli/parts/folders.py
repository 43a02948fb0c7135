"""Where commands write: a new folder by default, and nothing of an earlier run without ``--force``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from steer.results.storage import Storage

FORCE_HELP = "Replace results of an earlier run in --out."
force_option = click.option("--force", is_flag=True, help=FORCE_HELP)


def default_out(prefix: str = "", *, make: bool = True) -> str:
    """Return ``outputs/PREFIX`` with the time behind it: a folder that this command alone has.

    Args:
        prefix: of its name.
        make: make it; it is removed if it is empty when the command ends.

    Raises:
        SteerError: if it cannot be made.
    """
    from steer.results.claims import new_folder, numbered

    wanted = Path("outputs") / f"{prefix}{time.strftime('%Y%m%d-%H%M%S')}"
    if make:
        return click.get_current_context().with_resource(new_folder(wanted))
    return str(next(folder for folder in numbered(wanted) if not folder.exists()))


def claim(place: str | Path, written: Callable[[str], bool], *, force: bool) -> Storage:
    """Return the storage at a place, locked until the command ends.

    Args:
        place: a path or an fsspec URL.
        written: whether the command writes a file of this name there.
        force: replace such files.

    Raises:
        SteerError: if it cannot be written to, another process writes there, or such files are there.
    """
    from steer.results.claims import claimed
    from steer.results.storage import storage_at

    storage = storage_at(place)
    click.get_current_context().with_resource(claimed(storage, written, force=force))
    return storage


def claim_files(*paths: Path, force: bool) -> None:
    """Keep others from writing the first of these files until the command ends.

    Raises:
        SteerError: if another process writes it, or one of them is there, unless ``force`` is set.
    """
    from steer.errors import SteerError
    from steer.results.storage import LocalStorage

    context, (first, *_) = click.get_current_context(), paths
    context.with_resource(LocalStorage(first.parent).lock(first.name))
    for path in paths:
        if path.exists() and not force:
            raise SteerError(f"--out {path} is there already; add --force to replace it, or choose another --out")
