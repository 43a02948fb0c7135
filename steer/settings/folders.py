"""The one walk through folders of files that people bring.

What systems, editors and archives leave behind is passed over: everything hidden (``.ipynb_checkpoints``,
``.thumbnails``, ``._photo.jpg``) and ``__MACOSX``. A hidden folder that the user names is read.
"""

import os
from collections.abc import Collection, Iterable
from pathlib import Path


def is_passed_over(parts: Iterable[str]) -> bool:
    """Whether one of the names on the way from a walk's start to a file says that nobody means the file."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def files_in(folder: Path, suffixes: Collection[str], *, below: bool = True) -> list[Path]:
    """Return the files of a folder with one of the suffixes, in any case, sorted.

    Args:
        folder: where the walk begins.
        suffixes: in lower case, such as ``.png``.
        below: subfolders too, other than linked ones.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if below and not is_passed_over([name])]
        paths = (Path(place, name) for name in names if not is_passed_over([name]))
        found += (path for path in paths if path.suffix.lower() in suffixes and path.is_file())
    return sorted(found)
