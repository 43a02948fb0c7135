"""The recipe of a text: its file holds the text and nothing else, so it stands in the folder's own files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.render.journal import DETAILS, JOURNAL
from steer.results.folder import RESULT, SUFFIXES


def recipe_beside(path: Path) -> dict[str, Any]:
    """Return the recipe of a text as plain data, its ``slot`` included, from beside the file: not to be trusted.

    ``result.json`` in its folder (``steer generate``), or the journal of the folder above (``steer render``).

    Raises:
        SteerError: if there is no such file, or nothing beside it tells how it was made.
    """
    if not path.is_file():
        raise SteerError(f"text {path} does not exist")
    for name, row, recipe in (*_generated(path.parent), *_rendered(path.parent.parent)):
        if name == path.name:
            return {**recipe, "slot": row["slot"]}
    raise SteerError(
        f"text {path}: nothing beside it tells how it was made; it can be replayed in the folder that steer wrote "
        f"({RESULT}, or {JOURNAL} above it)"
    )


Found = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""A file's name, its particle and its recipe."""


def _generated(folder: Path) -> Iterator[Found]:
    for item in _parsed(folder / RESULT).get("items", []):
        if isinstance(item, dict) and isinstance(item.get("recipe"), dict):
            yield from _files(item, item["recipe"])


def _rendered(folder: Path) -> Iterator[Found]:
    recipes = {row.get("id"): row.get("recipe") for row in _lines(folder / DETAILS)}
    for row in reversed(list(_lines(folder / JOURNAL))):  # the last line of a prompt counts
        recipe = recipes.get(row.get("id"))
        if isinstance(recipe, dict):
            yield from _files(row, recipe)


def _files(row: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[Found]:
    try:
        chosen = [particle for particle in row["particles"] if particle["chosen"]]
        names = [Path(file).name for file in row["files"]]
        yield from (
            (name, particle, recipe) for name, particle in zip(names, chosen, strict=True) if "slot" in particle
        )
    except (KeyError, TypeError, ValueError):  # a damaged entry tells of no file
        return


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def _parsed(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and isinstance(data.get("items"), list) else {}


def is_text(path: Path) -> bool:
    """Whether a file's name is that of a sample that is a text."""
    return path.suffix.lower() == SUFFIXES["text"]
