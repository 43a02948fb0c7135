"""What a terminal shows of files that are being fetched, by whatever command."""

from __future__ import annotations

from typing import Any

import click

from steer.cli.shared import live_terminal, one_line
from steer.registry.declarations import size_text


class DownloadBars:
    """An observer of downloads: bars on a terminal, one line a file elsewhere, all on stderr."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, name: str, here: int, total: int | None) -> None:
        """Take note of ``here`` bytes of ``total``."""
        if not live_terminal():
            if name not in self._tasks:
                self._tasks[name] = None
                click.echo(f"fetching {one_line(name)} ({size_text(total)})", err=True)
            return
        progress = self._started()
        if name not in self._tasks:
            # what an earlier attempt brought does not count for the speed
            self._tasks[name] = progress.add_task(one_line(name), total=total, completed=here)
        progress.update(self._tasks[name], completed=here)
        if here == total:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None
        self._tasks.clear()

    def _started(self) -> Any:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.progress import TransferSpeedColumn as Speed

            self._progress = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), Speed(),
                TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._progress.start()
        return self._progress
