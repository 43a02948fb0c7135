"""Ctrl-C and SIGTERM: the first asks the render to stop, the second ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: threading.Event, say: Callable[[], None]) -> Iterator[None]:
    """Set ``stop`` and call ``say`` at the first signal; the second has its usual effect.

    This does nothing outside the main thread, because no other thread gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: Any) -> None:
        restore()
        stop.set()
        say()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        # a job that was started to ignore Ctrl-C still ignores it
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
