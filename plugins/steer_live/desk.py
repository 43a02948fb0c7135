"""``Desk``: what all routes of a server share: the model, the queue, and where files are."""

from __future__ import annotations

import time
from pathlib import Path

from steer.plugin import request_of, storage_at
from steer_live.asked import Offer
from steer_live.jobs import Job
from steer_live.queue import Queue


class Desk:
    """One server's state.

    Attributes:
        offer: the model, and what requests get that say nothing.
        queue: the jobs.
        folder: in which every job has a folder.
        created: when the server began, in seconds since 1970.
        ending: whether it is ending.
    """

    def __init__(self, offer: Offer, queue: Queue, folder: Path) -> None:
        self.offer, self.queue, self.folder = offer, queue, folder
        self.created = int(time.time())
        self.ending = False

    @staticmethod
    def check(job: Job) -> None:
        """Raise for a mistake that shows before the job runs.

        Raises:
            SteerError: naming it.
        """
        request_of(job.values)

    @staticmethod
    def address_of(job: Job, key: str) -> str:
        """Return the path by which clients fetch one of a job's files. It names no place on the disk."""
        return f"/files/{job.id}/{key}"

    def content_of(self, job: Job, key: str) -> bytes | None:
        """Return the content of one of a job's files; ``None`` if there is none with this key."""
        file = job.file(key)
        return None if file is None else storage_at(self.folder / job.id).read(file["file"])

    def end(self) -> None:
        """Begin to end: no job begins any more, streams and waiting requests are answered."""
        self.ending = True
        self.queue.ask_to_close()
