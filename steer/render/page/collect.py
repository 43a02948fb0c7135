"""Collecting the runs in a folder, their images and details. Files may come from others, so they are checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from steer.render.journal import DETAILS, JOURNAL, Journal
from steer.results.names import RESULT, TRACES, file_stem
from steer.results.rows import chosen_particles
from steer.results.storage import Storage
from steer.settings.folders import is_passed_over

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run to show.

    Attributes:
        folder: relative to the page's; empty if it is the page's.
        storage: of the run's folder.
        rendered: whether ``steer render`` made it, not ``steer generate``.
    """

    folder: str
    storage: Storage
    rendered: bool

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each prompt's results from the journal; entries that cannot be shown are left out."""
        for row in Journal(self.storage).rows() if self.rendered else self._results():
            if _showable(row):
                yield row
            else:
                log.warning("%s: a damaged entry is left out", self.storage.name)

    def details(self) -> Iterator[dict[str, Any]]:
        """Yield recipe, trace and small pictures of prompts; if a prompt comes more than once, the last counts."""
        if not self.rendered:
            for row in filter(_showable, self._results()):
                data = self.storage.read(f"{TRACES}/{file_stem(row['id'])}.json")
                yield {"id": row["id"], "recipe": row.get("recipe"), "trace": _object(data)}
            return
        for line in self.storage.lines(DETAILS):
            detail = _object(line)
            if isinstance(detail.get("id"), str):
                pictures = detail.get("thumbnails")
                if not (isinstance(pictures, list) and all(isinstance(one, str | None) for one in pictures)):
                    detail.pop("thumbnails", None)
                yield detail

    def _results(self) -> Iterator[dict[str, Any]]:
        items = _object(self.storage.read(RESULT)).get("items")
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict):
                yield {"status": "done", **item}


def find_runs(storage: Storage) -> list[Run]:
    """Return the runs in a folder and below it, upper folders first."""
    found: dict[str, bool] = {}
    for name in sorted(storage.sizes()):
        folder, _, file = name.rpartition("/")
        if is_passed_over(folder.split("/")):
            continue
        if file == JOURNAL or (file == RESULT and folder not in found):
            found[folder] = file == JOURNAL
    order = sorted(found, key=lambda folder: (folder.count("/") if folder else -1, folder))
    return [Run(folder, storage.at(folder), found[folder]) for folder in order]


def _showable(row: Mapping[str, Any]) -> bool:
    """Whether a row has the fields that the page needs, with their types."""
    try:
        if not all(isinstance(row[key], str) for key in ("id", "prompt")):
            return False
        if row["status"] != "done":
            return isinstance(row["reason"], str)
        size, category = row.get("size"), row.get("category")
        if not (category is None or isinstance(category, str)) or not (size is None or _two_numbers(size)):
            return False
        if not all(type(row.get(key, 0)) is int for key in ("index", "replicate")):
            return False
        chosen = chosen_particles(row)
        numbers = [row["seed"], *(particle["slot"] for particle in chosen)]
        scores = [score for p in chosen for score in (p["reward"], *p["judge"].values()) if score is not None]
        return (
            len(chosen) == len(row["files"])
            and all(_below(file) for file in row["files"])
            and all(type(number) is int for number in numbers)
            and all(isinstance(score, (int, float)) for score in scores)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _two_numbers(size: Any) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)


def _below(file: Any) -> bool:
    """Whether a file's name leads to somewhere below its folder."""
    return isinstance(file, str) and not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
