"""Finding the files in a folder of the user; hidden ones are left out.

Files that systems, editors and archives leave behind are left out: all hidden ones (``.ipynb_checkpoints``,
``.thumbnails``, ``._photo.jpg``) and ``__MACOSX``. A hidden folder that the user names is read.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def same_directory() -> Iterator[None]:
    """Return at the end to the working directory, which code of plugins may leave when it is imported."""
    try:
        kept = contextlib.chdir(Path.cwd())
    except FileNotFoundError:  # removed by another process
        yield
        return
    with kept:
        yield


def is_passed_over(parts: Iterable[str]) -> bool:
    """Whether a name on the path from a walk's start to a file marks it as one that users do not mean."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def files_in(folder: Path, suffixes: Collection[str], *, below: bool = True) -> list[Path]:
    """Return the files of a folder with one of the suffixes, in any case, sorted.

    Args:
        folder: the start of the walk.
        suffixes: in lower case, such as ``.png``.
        below: include subfolders, except linked ones.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if below and not is_passed_over([name])]
        paths = (Path(place, name) for name in names if not is_passed_over([name]))
        found += (path for path in paths if path.suffix.lower() in suffixes and path.is_file())
    return sorted(found)
