"""One pass of a render: outcomes come from the engine and are written by threads while it works on."""

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
"""Finished prompts that may wait to be written; the device waits beyond, so that memory stays flat."""

HOPELESS = 50
"""So many failures and not one success end a render: something is wrong with all of them."""


class RenderPass:
    """Renders what a plan lacks, once."""

    def __init__(self, folder: RenderFolder, plan: Plan, watcher: Watcher | None, page: Refresher) -> None:
        """Args: folder: where to; plan: what; watcher: sees it; page: built now and then, for people who wait."""
        self._folder, self._plan, self._watcher, self._page = folder, plan, watcher, page
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(WAITING)
        self._tally = Tally(plan.todo)
        self._spent: Counter[str] = Counter()
        self._broken: Exception | None = None
        self._last_failure = ""

    def run(self, engine: Engine | None) -> Summary:
        """Render; return when everything is written, or somebody asked to stop and what was in flight is written.

        Args:
            engine: what renders; ``None`` if nothing is to do.

        Raises:
            SteerError: if the folder cannot be written to any more, or nothing but failures came.
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
                f"the first {self._tally.failed} prompts all failed, the last was {self._last_failure}; mend it, then "
                "start again with --retry-failed"
            )
        progress = self._tally.progress
        stopped = self._stop.is_set() and progress.done + progress.failed < self._plan.todo
        # rows have their share of a pack each
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
        """Return what ends a render that cannot write any more: what is done stays."""
        if not isinstance(error, StorageError):
            return error
        done = self._plan.done + self._tally.done
        return SteerError(
            f"{error.what}; {done} of {self._plan.tasks} prompts are done: mend it, then start again to go on"
        )


def _nothing() -> None:
    return
