"""The gallery of all jobs: the page of ``steer gallery``, built anew when it is opened."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from steer.plugin import build_page, storage_at

INDEX = "index.html"
FRESH_SECONDS = 2.0
"""For so long a built page and a listing of the folder are new enough."""
SHOWN = (".html", ".js", ".png", ".mp4", ".txt")
"""Endings of the files that the page needs."""


class Gallery:
    """The files below a folder that the page shows, by their names in a listing of it."""

    def __init__(self, folder: Path) -> None:
        self._storage = storage_at(folder)
        self._lock = threading.Lock()
        self._names: frozenset[str] = frozenset()
        self._built = self._listed = float("-inf")

    def read(self, name: str) -> bytes | None:
        """Return a file; ``None`` for a name that is not in the listing."""
        with self._lock:
            if name == INDEX and time.monotonic() - self._built > FRESH_SECONDS:
                build_page(self._storage)
                self._built = time.monotonic()
                self._list()
            if name not in self._names and time.monotonic() - self._listed > FRESH_SECONDS:
                self._list()
            if name not in self._names:
                return None
        return self._storage.read(name)

    def _list(self) -> None:
        self._listed = time.monotonic()
        self._names = frozenset(
            name
            for name in self._storage.sizes()
            if name.endswith(SHOWN) and not any(part.startswith(".") for part in name.split("/"))
        )
