"""Where a run says how far it is."""

from contextlib import AbstractContextManager
from typing import Protocol


class Display(AbstractContextManager[object], Protocol):
    """A display, shown while its context is entered; :class:`steer.plugin.Bar` is one."""

    def show(self, done: float, total: float | None = None, *, note: str | None = None) -> None:
        """Show that so much is done, and a note behind it."""

    def say(self, text: str) -> None:
        """Print a line."""


class Silent(Display):
    """Says nothing: of several processes the first one speaks for all."""

    def show(self, done: float, total: float | None = None, *, note: str | None = None) -> None:
        """Show nothing."""
        return

    def say(self, text: str) -> None:
        """Print nothing."""
        return

    def __exit__(self, *_: object) -> None:
        return
