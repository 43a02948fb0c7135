"""Prompts of images from their folder: metadata files, captions beside images, and file names.

The layouts are those of Hugging Face's ``imagefolder``, GenEval, T2I-CompBench and of training data with captions.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.evaluate.score.images import SAMPLES
from steer.prompts.objects import parse
from steer.prompts.pictures.tools import looks_like_data, without_settings
from steer.prompts.prompt import Prompt
from steer.prompts.reading_options import Reading
from steer.prompts.tables import DELIMITERS, read_table
from steer.prompts.values import plain
from steer.results.names import METADATA
from steer.settings.folders import files_in
from steer.settings.text_files import read_text

TABLE = "metadata.csv"
CAPTIONS = (".txt", ".caption")
MAX_CAPTION = 100_000
"""Bytes of the longest caption beside an image."""

Told = tuple[Prompt, str]
"""A prompt, and how it was found; empty if the user gave it."""

_NUMBERED = re.compile(r"(.*\S)_\d{6}")
"""T2I-CompBench's names, ``a red book and a blue vase_000012.png``."""


def read_metadata(path: Path, column: str | None = None, *, whole: bool = False) -> dict[Path, Prompt]:
    """Read prompts by image from JSON lines, CSV or TSV with ``file_name`` and a prompt (imagefolder form).

    Args:
        path: the file; or a folder with a text for each image, of the same name (DPG-Bench).
        column: the key that holds the prompts; by default one of :data:`steer.prompts.reading_options.TEXT_KEYS`.
        whole: let one line without ``file_name`` apply to the whole folder (GenEval), which is its key then.

    Raises:
        SteerError: naming the line that cannot be read.
    """
    reading = Reading(column)
    prompts: dict[Path, Prompt] = {}
    table = path.suffix.lower() in (".csv", ".tsv")
    rows: list[tuple[str, Any]] = [*(read_table(path, "metadata file", reading) if table else _lines(path))]
    for where, row in rows:
        if whole and len(rows) == 1 and isinstance(row, dict) and "file_name" not in row:
            row = {"file_name": ".", **row}
        name, prompt = _listed(row, where, reading)
        image = (path.parent / name).resolve()
        if image in prompts and prompts[image] != prompt:
            raise SteerError(
                f"{where}: {name[:80]!r} has another prompt above, {str(prompts[image])[:60]!r}; keep one of the two"
            )
        prompts[image] = prompt
    return prompts


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_text(path, "metadata file").split("\n"), 1):
        if line.strip():
            where = f"metadata file {path}, line {number}"
            yield where, parse(line, where)


def _listed(row: Any, where: str, reading: Reading) -> tuple[str, Prompt]:
    """Return an image's name and its prompt from a line of metadata."""
    keys = reading.text_keys(row) if isinstance(row, dict) else []
    name = next((value for name, value in row.items() if name.strip().lower() == "file_name"), None) if keys else None
    texts = [key for key in keys if isinstance(row[key], str)]
    key = next((key for key in texts if row[key].strip()), texts[0] if texts else None)
    if not isinstance(name, str) or "\0" in name or key is None:
        expected = f'{{"file_name": "0.png", "{reading.column or "prompt"}": "a red circle"}}'
        there = f"; its keys are {', '.join(row)[:200]}" if isinstance(row, dict) else ""
        raise SteerError(f"{where}: expected {expected}{there}")
    row = plain(row, where, reading)
    rest = {k: v for k, v in row.items() if k.strip().lower() not in ("file_name", "id", "category") and k != key}
    return name, Prompt(row[key], id=_named(row.get("id")), category=_named(row.get("category")), metadata=rest)


def _named(value: object) -> str | None:
    return None if value is None else str(value)


def read_captions(folder: Path) -> dict[str, Prompt]:
    """Read the texts of a folder by their names without endings.

    Raises:
        SteerError: if there is none, or one cannot be read.
    """
    found: dict[str, Prompt] = {}
    for file in files_in(folder, CAPTIONS):
        prompt = Prompt(read_text(file, "caption").strip(), id=file.stem)
        if found.setdefault(file.stem, prompt) != prompt:
            raise SteerError(f"metadata folder {folder} holds several texts named {file.stem!r}; keep one of them")
    if not found:
        raise SteerError(f"metadata folder {folder} holds no .txt file; expected one for each image, of the same name")
    return found


class Layouts:
    """Finds prompts in folders of images, reading each file once.

    Args:
        column: the key of metadata files that holds the prompts.
        roots: files and folders that the user named; metadata files above them do not count.
    """

    def __init__(self, column: str | None = None, roots: Sequence[Path] = ()) -> None:
        self._column = column
        self._roots = {root.resolve() for root in roots}
        self._read: dict[Path, dict[Path, Prompt]] = {}

    def beside(self, path: Path) -> Told | None:
        """Return an image's prompt from a metadata file or a caption.

        Raises:
            SteerError: if one of these cannot be read.
        """
        image = path.resolve()
        for folder in self._above(image.parent):
            found = self._metadata(folder)
            if image in found:
                return found[image], ""
            if folder in found and image.parent in (folder, folder / SAMPLES):
                return found[folder], f"{METADATA} above {SAMPLES} (GenEval)"
        text = next(filter(None, map(_caption, (path.with_suffix(suffix) for suffix in CAPTIONS))), None)
        return None if text is None else (Prompt(text), "text files beside images")

    def _above(self, folder: Path) -> Iterator[Path]:
        """Yield the folders whose metadata may name an image in a folder: its own, and those up to the user's."""
        within = [place for place in (folder, *folder.parents) if place in self._roots]
        last = within[-1] if within else folder.parent if folder.name == SAMPLES else folder
        for place in (folder, *folder.parents):
            yield place
            if place == last:
                return

    def _metadata(self, folder: Path) -> dict[Path, Prompt]:
        if folder not in self._read:
            file, table = folder / METADATA, folder / TABLE
            found: dict[Path, Prompt] = {}
            if file.is_file():
                found = read_metadata(file, self._column, whole=True)
            elif table.is_file() and self._has_prompts(table):
                found = read_metadata(table, self._column)
            self._read[folder] = found
        return self._read[folder]

    def _has_prompts(self, table: Path) -> bool:
        """Whether a table is about prompts, and not about labels."""
        lines = [line for line in read_text(table, "metadata file").splitlines()[:2] if not line.startswith("sep=")]
        for delimiter in DELIMITERS:
            head = [cell.strip(' "') for cell in (lines or [""])[0].split(delimiter)]
            if "file_name" in map(str.lower, head) and Reading(self._column).text_keys(head):
                return True
        return False


def _caption(file: Path) -> str | None:
    """Return a caption without A1111's settings; ``None`` for other texts: numbers (YOLO), JSON, a log."""
    if not file.is_file() or file.stat().st_size > MAX_CAPTION:
        return None
    text = read_text(file, "caption").strip()
    prompt = without_settings(text)
    text = text if prompt is None else prompt.strip()
    return text if any(map(str.isalpha, text)) and not looks_like_data(text) else None


def prompt_in_name(path: Path) -> Told | None:
    """Return the prompt in the name of a file in a folder ``samples`` (T2I-CompBench).

    A name without spaces counts if three words or more are joined by underscores, without digits.
    """
    found = _NUMBERED.fullmatch(path.stem) if path.parent.name == SAMPLES else None
    if found is None:
        return None
    words = found[1].split() if " " in found[1] else found[1].split("_")
    if " " not in found[1] and (len(words) < 3 or not all(map(str.isalpha, words))):
        return None
    return Prompt(" ".join(words)), "names of files (T2I-CompBench)"
