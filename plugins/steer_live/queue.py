"""``Queue``: the jobs that wait, the one that runs, and those that ended. One thread works at them, in order."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from steer import RewardError, SteerError
from steer.plugin import StorageError, one_line
from steer_live.channel import Channel
from steer_live.jobs import Job, Status
from steer_live.journal import KEPT, Journal
from steer_live.observer import Stopped, Tell

log = logging.getLogger(__name__)

REMEMBERED = 16
"""Finished jobs whose events can still be read."""

Run = Callable[[Job, Tell, threading.Event], None]
"""Runs a job; raises :class:`Stopped` soon after the event is set."""


class FullError(SteerError):
    """The queue takes no more jobs now.

    Attributes:
        waiting: jobs in it.
    """

    def __init__(self, waiting: int) -> None:
        super().__init__(f"the queue is full: {waiting} jobs wait; try again when some are done")
        self.waiting = waiting


class Queue:
    """A bounded queue of jobs, journaled.

    Attributes:
        changes: events about all jobs: each change of a job's status.
    """

    def __init__(self, run: Run, journal: Journal, most: int) -> None:
        """Args: run: runs a job; journal: keeps them; most: jobs that may wait."""
        self._run, self._journal, self._most = run, journal, most
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._running: str | None = None
        self._stop = threading.Event()
        self._closing = False
        self._ends: dict[str, Future[Job]] = {}
        self._channels: OrderedDict[str, Channel] = OrderedDict()
        self._thread = threading.Thread(target=self._loop, name="steer-live", daemon=True)
        self.changes = Channel(most=2 * 1024**2)

    # ---- the thread ----------------------------------------------------------------------------------------

    def start(self) -> int:
        """Go on with the jobs that the journal says are open; return how many there are."""
        for job in self._journal.compacted():
            self._jobs[job.id] = job
            if job.open:
                job.status = "queued"
                self._admit(job)
        count = len(self._waiting)
        self._thread.start()
        return count

    def ask_to_close(self) -> None:
        """Let the running job end after its step, and begin no other: they stay open in the journal."""
        with self._work:
            self._closing = True
            self._stop.set()
            self._work.notify_all()
            channels, ends = list(self._channels.values()), list(self._ends.values())
        for channel in (*channels, self.changes):
            channel.close()
        for end in ends:
            end.cancel()

    def close(self) -> None:
        """Wait until nothing is at work; :meth:`ask_to_close` first."""
        self.ask_to_close()
        self._thread.join()

    # ---- jobs ----------------------------------------------------------------------------------------------

    def submit(self, *jobs: Job) -> None:
        """Add jobs, all or none, durably; one that has ended begins again, or goes on.

        Raises:
            SteerError: if one of them has not ended.
            FullError: if there is no room for all of them, or the server is ending.
        """
        with self._lock:
            if any(job.id in self._ends for job in jobs):
                raise SteerError("the job is in the queue already")
            if self._closing or len(self._waiting) + len(jobs) > self._most:
                raise FullError(len(self._waiting))
            for job in jobs:
                job.status = "queued"
                self._journal.write(job)
                self._jobs[job.id] = job
                self._admit(job)
            self._work.notify_all()
        for job in jobs:
            self._announce(job)

    def stop(self, job: Job) -> None:
        """Take a job out of the queue, or end it after its step; an ended one stays as it is."""
        with self._lock:
            if job.id == self._running:
                self._stop.set()
                return
            if job.id not in self._waiting:
                return
            self._waiting.remove(job.id)
        self._end(job, "stopped")

    def get(self, identity: str) -> Job | None:
        """Return a job by its id."""
        return self._jobs.get(identity)

    def jobs(self) -> list[Job]:
        """Return all jobs, newest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def place_of(self, job: Job) -> int:
        """Return how many jobs come before one that waits; 0 for the others."""
        with self._lock:
            return self._waiting.index(job.id) + (self._running is not None) if job.id in self._waiting else 0

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def channel(self, job: Job) -> Channel | None:
        """Return a job's events; ``None`` if they are forgotten."""
        with self._lock:
            return self._channels.get(job.id)

    def end_of(self, job: Job) -> Future[Job]:
        """Return the future that an open job resolves when it ends; cancelled if the server ends before."""
        with self._lock:
            found = self._ends.get(job.id)
            if found is None:
                found = Future()
                found.set_result(job)
            return found

    # ---- inside --------------------------------------------------------------------------------------------

    def _admit(self, job: Job) -> None:
        self._waiting.append(job.id)
        self._ends[job.id] = Future()
        self._channels[job.id] = Channel()

    def _loop(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: self._closing or self._waiting)
                if self._closing:
                    return
                job = self._jobs[self._waiting.popleft()]
                self._running = job.id
                self._stop.clear()
            try:
                self._run_one(job)
            finally:
                with self._lock:
                    self._running = None

    def _run_one(self, job: Job) -> None:
        job.status, job.failure, job.mistaken = "running", "", False
        self._announce(job)
        channel, begun = self._channels[job.id], time.monotonic()
        end: Status = "done"
        try:
            self._run(job, channel.put, self._stop)
        except Stopped:
            end = "stopped"
        except SteerError as error:
            end, job.failure, job.mistaken = "failed", str(error), not isinstance(error, (RewardError, StorageError))
        except Exception as error:  # a method or a reward may raise anything; the next job must still run
            log.error("job %s failed", job.id, exc_info=True)
            end, job.failure = "failed", f"{type(error).__name__}: {str(error)[:500]}"
        job.seconds = time.monotonic() - begun
        if end == "stopped" and self._closing:
            return  # it stays open in the journal, and begins again with the next server
        self._end(job, end)

    def _end(self, job: Job, status: Status) -> None:
        job.status, job.failure = status, one_line(job.failure)
        try:
            self._journal.write(job)
        except SteerError:  # a full disk; it runs again with the next server, and the next job may still be refused
            log.error("the end of job %s is not in the journal", job.id, exc_info=True)
        channel = self._channels[job.id]
        channel.put("end", job.shown())
        channel.close()
        self._announce(job)
        with self._lock:
            end = self._ends.pop(job.id)
            closed = [name for name in self._channels if name not in self._ends]
            for name in closed[:-REMEMBERED]:
                del self._channels[name]
            ended = [name for name, one in self._jobs.items() if not one.open]
            for name in ended[:-KEPT]:
                del self._jobs[name]
        if end.set_running_or_notify_cancel():
            end.set_result(job)

    def _announce(self, job: Job) -> None:
        data: dict[str, Any] = {"job": job.shown(), "waiting": self.waiting}
        self.changes.put("job", data)
