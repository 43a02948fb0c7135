"""When the page is built again while a render goes on."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_SECONDS, SECONDS = 30.0, 120.0
"""When the page is there for the first time, and how often it is built again."""

SHARE = 0.02
"""Of the time, at most, that building takes: with many images it is built less often."""


class Refresher:
    """Does something every few minutes, in whichever thread comes by; never in two at a time.

    What goes wrong with it is told and tried again later: a page is not worth a night's render.
    """

    def __init__(self, work: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        """Args: work: what to do; clock: seconds, for tests."""
        self._work, self._clock = work, clock
        self._busy = threading.Lock()
        self._due = clock() + FIRST_SECONDS

    def come_by(self) -> None:
        """Do it if it is due and nobody is at it."""
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
