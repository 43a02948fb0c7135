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

    Python raises it wherever it happens to be, and if that is a finalizer or a library's callback it is printed and
    lost: the run would go on. It is still raised at once where no step is on its way: while a model is loaded or
    fetched, while finished samples are scored and written, and at the second Ctrl-C. Use as a context manager around
    all runs of a command, give it to each as an observer, and :meth:`check` between them.
    """

    def __init__(self) -> None:
        """Make one for one command."""
        self._stop = threading.Event()
        self._stepping = False
        self._signals: AbstractContextManager[None] = stopping(self._stop, self._told)

    def __enter__(self) -> Interrupt:
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.__exit__(None, None, None)

    def check(self) -> None:
        """Raise if there was a Ctrl-C.

        Raises:
            KeyboardInterrupt: then.
        """
        if self._stop.is_set():
            self._stepping = False
            raise KeyboardInterrupt

    def _told(self) -> None:
        if not self._stepping:
            raise KeyboardInterrupt
        if sys.stderr.isatty():  # past Python's own stream, which the interrupted code may be writing to
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """From here on there are steps to wait for."""
        self.check()
        self._stepping = True
        return (yield)

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Stop here, if asked to."""
        result = yield
        self.check()
        return result

    @hookimpl(wrapper=True)
    def after_round(self, run: Run, done: int, total: int | None) -> Generator[None, Any, Any]:
        """Stop here, if asked to."""
        result = yield
        self.check()
        return result

    @hookimpl(wrapper=True)
    def finish(self, state: State) -> Generator[None, Any, Any]:
        """The last step is done: what follows is interrupted at once."""
        self.check()
        self._stepping = False
        return (yield)
