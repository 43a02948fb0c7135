"""One pass of a render: threads write the engine's outcomes while it continues."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from steer.errors import SteerError
from steer.render.engine import Engine
from steer.render.folder import RenderFolder
from steer.render.interrupts import stopping
from steer.render.outcomes import Failed, Outcome
from steer.render.refresher import Refresher
from steer.render.tally import Tally
from steer.render.watcher import Plan, Summary, Watcher
from steer.results.cost import Cost
from steer.results.storage.base import StorageError

WRITERS = 4
"""Threads that encode and write images while the device works."""

WAITING = 128
"""Most finished prompts that wait to be written; then the device waits, so that memory stays flat."""

HOPELESS = 50
"""Failures without a success after which a render ends, because all prompts would fail."""


class RenderPass:
    """Renders the missing tasks of a plan, once."""

    def __init__(self, folder: RenderFolder, plan: Plan, watcher: Watcher | None, page: Refresher) -> None:
        """Args: folder: to write to; plan: the tasks; watcher: sees the progress; page: rebuilt from time to time."""
        self._folder, self._plan, self._watcher, self._page = folder, plan, watcher, page
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(WAITING)
        self._tally = Tally(plan.todo)
        self._spent: Counter[str] = Counter()
        self._broken: Exception | None = None
        self._last_failure = ""

    def run(self, engine: Engine | None) -> Summary:
        """Render; return when everything is written, or after a request to stop, when the packs in flight are written.

        Args:
            engine: renders the packs; ``None`` if nothing is missing.

        Raises:
            SteerError: if the folder cannot be written to any more, or all prompts failed.
        """
        say = self._watcher.stopping if self._watcher else _nothing
        with stopping(self._stop, say), ThreadPoolExecutor(WRITERS, "steer-write") as pool:
            for outcome in engine.outcomes(self._plan.packs, self._stop) if engine else ():
                self._room.acquire()
                pool.submit(self._settle, outcome)
                if self._broken:
                    break
        if self._broken:
            raise self._ended(self._broken) from self._broken
        if self._hopeless:
            raise SteerError(
                f"the first {self._tally.failed} prompts all failed, the last: {self._last_failure}; fix the cause and "
                "run again with --retry-failed"
            )
        progress = self._tally.progress
        stopped = self._stop.is_set() and progress.done + progress.failed < self._plan.todo
        # each row has its share of a pack
        cost = Cost(**{name: value if name == "seconds" else round(value) for name, value in self._spent.items()})
        return Summary(self._plan, progress, cost, self._tally.seconds, stopped, self._folder.storage.name)

    def _settle(self, outcome: Outcome) -> None:
        try:
            row = self._folder.fail(outcome) if isinstance(outcome, Failed) else self._folder.store(outcome())
            with self._lock:
                self._count(row)
            self._page.come_by()
        except Exception as error:  # raised again by run(), in the main thread
            self._broken = self._broken or error
            self._stop.set()
        finally:
            self._room.release()

    def _count(self, row: Mapping[str, Any]) -> None:
        if row["status"] == "done":
            self._tally.add_done(row)
            self._spent.update(row["cost"])
            if self._watcher:
                self._watcher.done(row, self._tally.progress)
            return
        self._tally.add_failed()
        self._last_failure = f"{row['id'][:80]!r}: {row['reason']}"
        if self._watcher:
            self._watcher.failed(row, self._tally.progress)
        if self._hopeless:
            self._stop.set()

    @property
    def _hopeless(self) -> bool:
        return self._tally.failed >= HOPELESS and not self._tally.done and not self._plan.done

    def _ended(self, error: Exception) -> Exception:
        """Return the error that ends a render which cannot write any more; finished prompts stay."""
        if not isinstance(error, StorageError):
            return error
        done = self._plan.done + self._tally.done
        return SteerError(
            f"{error.what}; {done} of {self._plan.tasks} prompts are done; fix the cause, then run again to resume"
        )


def _nothing() -> None:
    return
