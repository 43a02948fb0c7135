"""The jobs on disk: a log with one line per change of a job, of which the last counts. A server that was killed goes
on with the jobs that it says are open.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steer.plugin import json_text, storage_at
from steer_live.jobs import Job

LOG = "live.jsonl"
KEPT = 1000
"""Finished jobs that a server remembers; the images of others stay in their folders, and in the gallery."""

log = logging.getLogger(__name__)


class Journal:
    """Reads and writes the log of a folder."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: of all jobs' folders."""
        self._storage = storage_at(folder)
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other servers from this log within the block.

        Raises:
            SteerError: if another one has it, or it cannot be written to.
        """
        self._storage.check()
        with self._storage.lock(LOG):
            self._storage.check_log(LOG)
            try:
                yield
            finally:
                self._storage.close()

    def write(self, job: Job) -> None:
        """Add a line that says how a job stands, durably: it was accepted."""
        with self._lock:
            self._storage.append(LOG, f"{json_text(job.as_dict())}\n".encode())
            self._storage.sync()

    def compacted(self) -> list[Job]:
        """Return :meth:`read`, and leave one line for each of these jobs."""
        jobs = self.read()
        if jobs:
            self._storage.write(LOG, "".join(f"{json_text(job.as_dict())}\n" for job in jobs).encode())
        return jobs

    def read(self) -> list[Job]:
        """Return the jobs, oldest first; of finished ones the last :data:`KEPT`. Damaged lines are left out."""
        found: dict[str, Job] = {}
        for number, line in enumerate(self._storage.lines(LOG)):
            try:
                job = Job.from_dict(json.loads(line))
                found[job.id] = job
            except (ValueError, TypeError, RecursionError):
                log.warning("%s, line %d is damaged and left out", LOG, number + 1)
        jobs = list(found.values())
        closed = [job.id for job in jobs if not job.open]
        forgotten = set(closed[:-KEPT])
        return [job for job in jobs if job.id not in forgotten]
