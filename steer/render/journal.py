"""The journal: one JSON line per finished or failed prompt; the last line of a prompt counts."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steer.prompts.rows import as_row
from steer.render.spec import Task
from steer.results.rows import is_whole
from steer.results.storage import Storage
from steer.settings.strict_json import json_text

log = logging.getLogger(__name__)

JOURNAL, DETAILS = "journal.jsonl", "details.jsonl"
"""The journal, and the file of larger data beside it: recipes, traces and small pictures for the page."""

SYNC_SECONDS = 1.0
"""Work that may be repeated after a power cut; a killed process loses nothing."""


@dataclass(frozen=True)
class Entry:
    """The journal's entry of a prompt: whether it is done, its digest and its files."""

    done: bool
    digest: str
    files: tuple[str, ...]
    line: int


def digest_of(task: Task, *, placed: bool) -> str:
    """Return a hash of a task: a changed prompt under the same id has another hash.

    Args:
        task: the task.
        placed: whether its place among the other tasks counts.
    """
    data = {**as_row(task.prompt), "place": [task.index, task.replicate] if placed else None}
    text = json_text(data, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def place_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the sort key that puts lines into the prompts' order, in which threads do not finish."""
    return row.get("index", 0), row.get("replicate", 0)


class Journal:
    """Reads and writes the journal of a place."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._synced = time.monotonic()

    def entries(self) -> dict[str, Entry]:
        """Return the last entry of every prompt by id. A damaged line is left out: its prompt is rendered again."""
        found: dict[str, Entry] = {}
        for number, line in enumerate(self._storage.lines(JOURNAL)):
            try:
                row = json.loads(line)
                if not is_whole(row):
                    raise ValueError
                files = tuple(row["files"]) if row["status"] == "done" else ()
                found[row["id"]] = Entry(row["status"] == "done", str(row["digest"]), files, number)
            except (ValueError, KeyError, RecursionError):
                log.warning("%s, line %d is damaged and left out", self._storage.url(JOURNAL), number + 1)
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the last line of every prompt, one after another: memory does not grow with the journal."""
        last = {entry.line for entry in self.entries().values()}
        for number, line in enumerate(self._storage.lines(JOURNAL)):
            if number in last:
                yield json.loads(line)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a line."""
        self._storage.append(JOURNAL, f"{json_text(row)}\n".encode())
        now = time.monotonic()
        if now - self._synced >= SYNC_SECONDS:
            self._synced = now
            self._storage.sync()
