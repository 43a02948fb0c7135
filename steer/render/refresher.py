"""``Refresher``: rebuilds the page from time to time during a render."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_SECONDS, SECONDS = 30.0, 120.0
"""Seconds until the page is first built, and between later builds."""

SHARE = 0.02
"""Largest share of the time that building takes: with many images the page is built less often."""


class Refresher:
    """Does some work every few minutes, in one of the calling threads at a time.

    A failure gives a warning and is retried later: the page must not end the render.
    """

    def __init__(self, work: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        """Args: work: called from time to time; clock: seconds, for tests."""
        self._work, self._clock = work, clock
        self._busy = threading.Lock()
        self._due = clock() + FIRST_SECONDS

    def come_by(self) -> None:
        """Do the work if it is due and no other thread does it."""
        if self._clock() < self._due or not self._busy.acquire(blocking=False):
            return
        try:
            began = self._clock()
            try:
                self._work()
            except Exception as error:
                log.debug("not refreshed", exc_info=True)
                warnings.warn(f"the page cannot be built for now ({error})", stacklevel=2)
            ended = self._clock()
            self._due = ended + max(SECONDS, (ended - began) / SHARE)
        finally:
            self._busy.release()
