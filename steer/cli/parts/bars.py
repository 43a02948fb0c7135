"""Progress on stderr: bars on a terminal, plain lines elsewhere, so that a log stays readable."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from contextvars import Token
from typing import TYPE_CHECKING, Any

import click

from steer.cli.parts.shared import live_terminal, one_line
from steer.models.downloads import fetching
from steer.registry.declarations import size_text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

LINE_SECONDS = 30.0
"""Seconds between two lines if stderr is no terminal."""


class Bar(AbstractContextManager["Bar"]):
    """The progress of one task. While its bar is shown, downloads appear in it."""

    def __init__(self, label: str, total: float | None = None, *, lines: bool = False) -> None:
        """Make a bar; it appears when its context is entered.

        Args:
            label: text before the bar.
            total: number of items to do; unknown by default.
            lines: print a line now and then if stderr is no terminal; by default nothing is printed there.
        """
        from rich.progress import TimeRemainingColumn

        self._lines, self._told, self._label = lines, time.monotonic(), label
        self._progress = _progress("note", TimeRemainingColumn())
        self._task = self._progress.add_task(one_line(label), total=total, note="")
        self._downloads: Token[fetching.Observer | None] | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        if not self._progress.disable:  # two live displays would tear each other
            self._downloads = fetching.observer.set(self._fetching)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._downloads is not None:
            fetching.observer.reset(self._downloads)
            self._downloads = None
        self._progress.stop()

    def advance(self) -> None:
        """Count one more item as done."""
        self.show(self._progress.tasks[0].completed + 1)

    def show(
        self, done: float, total: float | None = None, *, label: str | None = None, note: str | None = None
    ) -> None:
        """Show how much is done.

        Args:
            total: the new total, if it changed.
            label: the new label, if it changed; the time left is then estimated afresh.
            note: text after the bar, ``done/total`` by default.
        """
        total = self._progress.tasks[0].total if total is None else total
        note = f"{done:g}" + ("" if total is None else f"/{total:g}") if note is None else note
        if label is not None and label != self._label:
            self._label, self._told = label, float("-inf")
            self._progress.reset(self._task, total=total, description=one_line(label))
        self._progress.update(self._task, total=total, completed=done, note=one_line(note))
        if self._lines and self._progress.disable and (time.monotonic() - self._told >= LINE_SECONDS or done == total):
            self._told = time.monotonic()
            self.say(f"{self._label}: {note}" if self._label else note)

    def note(self, text: str) -> None:
        """Show another text after the bar, if stderr is a terminal."""
        self._progress.update(self._task, note=one_line(text))

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._progress.disable:
            click.echo(one_line(text), err=True)
        else:
            self._progress.console.print(one_line(text), soft_wrap=True)

    def _fetching(self, name: str, here: int, total: int | None) -> None:
        share = f" {here / total:.0%} of {size_text(total)}" if total else ""
        self.note(f"fetching {name}{share}")


class DownloadBars:
    """An observer of downloads in any command: bars on a terminal, one line per file elsewhere."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, name: str, here: int, total: int | None) -> None:
        """Show that ``here`` of ``total`` bytes have arrived."""
        if not live_terminal():
            if name not in self._tasks:
                self._tasks[name] = None
                click.echo(f"fetching {one_line(name)} ({size_text(total)})", err=True)
            return
        if self._progress is None:
            from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

            self._progress = _progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._progress.start()
        if name not in self._tasks:
            # bytes from an earlier attempt do not count toward the speed
            self._tasks[name] = self._progress.add_task(one_line(name), total=total, completed=here)
        self._progress.update(self._tasks[name], completed=here)
        if here == total:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None
        self._tasks.clear()


def _progress(*columns: ProgressColumn | str) -> Progress:
    """Return a display on stderr that leaves nothing behind; a column can be the name of a task's field."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    shown = (TextColumn(f"{{task.fields[{c}]}}", markup=False) if isinstance(c, str) else c for c in columns)
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        *shown,
        console=console,
        transient=True,
        disable=not live_terminal(),
    )
