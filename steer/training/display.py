"""``Display``: the interface that shows a run's progress."""

from contextlib import AbstractContextManager
from typing import Protocol


class Display(AbstractContextManager[object], Protocol):
    """A display, shown while its context is entered; :class:`steer.plugin.Bar` is one."""

    def show(self, done: float, total: float | None = None, *, note: str | None = None) -> None:
        """Show the progress with a note."""

    def say(self, text: str) -> None:
        """Print a line."""


class Silent(Display):
    """Shows nothing: of several processes, only the first one has a display."""

    def show(self, done: float, total: float | None = None, *, note: str | None = None) -> None:
        """Show nothing."""
        return

    def say(self, text: str) -> None:
        """Print nothing."""
        return

    def __exit__(self, *_: object) -> None:
        return
