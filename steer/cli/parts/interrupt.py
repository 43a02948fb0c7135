"""Ctrl-C between two steps, as an observer of runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any

from steer.registry.registration import hookimpl
from steer.render.interrupts import stopping
from steer.sampling.run import Run
from steer.sampling.state import State


class Interrupt:
    """Ends runs by :class:`KeyboardInterrupt` after the step or round in which the first Ctrl-C (or SIGTERM) came.

    Python raises the exception in whatever code is running. In a finalizer or a library's callback, Python prints and
    drops it, and the run would continue. It is still raised at once if no step is running (while a model is loaded or
    fetched, while finished samples are scored and written), and at the second Ctrl-C. Use this as a context manager
    around all runs of a command, pass it to each run as an observer, and call :meth:`check` between them.
    """

    def __init__(self) -> None:
        """Make one per command."""
        self._stop = threading.Event()
        self._stepping = False
        self._signals: AbstractContextManager[None] = stopping(self._stop, self._told)

    def __enter__(self) -> Interrupt:
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.__exit__(None, None, None)

    def check(self) -> None:
        """Raise if the user pressed Ctrl-C.

        Raises:
            KeyboardInterrupt: if the first Ctrl-C (or SIGTERM) came.
        """
        if self._stop.is_set():
            self._stepping = False
            raise KeyboardInterrupt

    def _told(self) -> None:
        if not self._stepping:
            raise KeyboardInterrupt
        if sys.stderr.isatty():  # bypasses Python's stream, to which the interrupted code may be writing
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """From here on, Ctrl-C waits for the end of a step."""
        self.check()
        self._stepping = True
        return (yield)

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Stop here if Ctrl-C came."""
        result = yield
        self.check()
        return result

    @hookimpl(wrapper=True)
    def after_round(self, run: Run, done: int, total: int | None) -> Generator[None, Any, Any]:
        """Stop here if Ctrl-C came."""
        result = yield
        self.check()
        return result

    @hookimpl(wrapper=True)
    def finish(self, state: State) -> Generator[None, Any, Any]:
        """From here on, Ctrl-C interrupts at once: the last step is done."""
        self.check()
        self._stepping = False
        return (yield)
