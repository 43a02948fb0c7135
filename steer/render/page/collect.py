"""Collecting the runs in a folder, their images and details. Files may come from others, so they are checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from steer.render.journal import DETAILS, JOURNAL, Journal
from steer.results.names import RESULT, TRACES, file_stem
from steer.results.rows import is_whole
from steer.results.storage import Storage
from steer.settings.folders import is_passed_over

log = logging.getLogger(__name__)

REPORT = "report.html"


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

    def check(self) -> None:
        """Raise for a file that cannot be read."""
        if not self.rendered:
            self.storage.read(RESULT)
        for name in (JOURNAL, DETAILS) if self.rendered else ():
            next(iter(self.storage.lines(name)), None)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each prompt's results from the journal; entries that cannot be shown are left out."""
        for row in Journal(self.storage).rows() if self.rendered else self._results():
            if is_whole(row):
                yield row
            else:
                log.warning("%s: a damaged entry is left out", self.storage.name)

    def details(self) -> Iterator[dict[str, Any]]:
        """Yield recipe, trace and small pictures of prompts; if a prompt comes more than once, the last counts."""
        if not self.rendered:
            for row in filter(is_whole, self._results()):
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


def find_reports(storage: Storage) -> list[str]:
    """Return the reports of ``steer compare`` and ``steer bench`` in a folder and below it."""
    names = set(storage.sizes())
    return sorted(
        name
        for name in names
        if name.rpartition("/")[2] == REPORT
        and f"{name.removesuffix(REPORT)}summary.json" in names
        and not is_passed_over(name.split("/")[:-1])
    )


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
