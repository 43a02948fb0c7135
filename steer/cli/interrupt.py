"""Ctrl-C between two steps, as an observer of a run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any

from steer.hookspecs import hookimpl
from steer.render.interrupts import stopping
from steer.run import Run
from steer.state import State


class Interrupt:
    """Ends a run by :class:`KeyboardInterrupt` after the step in which the first Ctrl-C (or SIGTERM) came.

    Python raises it wherever it happens to be, and if that is a finalizer or a library's callback it is printed and
    lost: the run would go on. Before the first step, while a model is loaded or fetched, and at the second Ctrl-C it is
    raised at once. Use as a context manager and give it to a run as an observer.
    """

    def __init__(self) -> None:
        """Make one for one run."""
        self._stop = threading.Event()
        self._begun = False
        self._signals: AbstractContextManager[None] = stopping(self._stop, self._told)

    def __enter__(self) -> Interrupt:
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.__exit__(None, None, None)

    def _told(self) -> None:
        if not self._begun:
            raise KeyboardInterrupt
        if sys.stderr.isatty():
            sys.stderr.write("\nstopping after this step; Ctrl-C again stops at once\n")

    def _check(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """From here on there are steps to wait for."""
        self._begun = True
        self._check()
        return (yield)

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Stop here, if asked to."""
        result = yield
        self._check()
        return result

    @hookimpl(wrapper=True)
    def after_round(self, run: Run, done: int, total: int | None) -> Generator[None, Any, Any]:
        """Stop here, if asked to."""
        result = yield
        self._check()
        return result
