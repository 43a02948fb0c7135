"""How far a training is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar on stderr; if that is no terminal whose lines can change, ``tell`` gets a line for each row of the log."""

    def __init__(self, name: str, *, total: int, done: int, tell: Callable[[str], None], main: bool) -> None:
        """Stand at ``done`` of ``total`` steps; of several processes only the ``main`` one shows a bar."""
        console = Console(stderr=True)
        live = main and console.is_terminal and not console.is_dumb_terminal
        words = [TextColumn(text) for text in ("{task.description}", "{task.fields[row]}", "left")]
        times = TimeElapsedColumn(), words[2], TimeRemainingColumn()
        self._bar = Bar(
            words[0], BarColumn(), MofNCompleteColumn(), words[1], *times, console=console, disable=not live
        )
        self._task = self._bar.add_task(name, total=total, completed=done, row="")
        self._name, self._total, self._tell = name, total, None if live else tell
        self._began, self._first = time.monotonic(), done

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, done: int) -> None:
        """So many steps are done."""
        self._bar.update(self._task, completed=done)

    def row(self, done: int, values: Mapping[str, Any]) -> None:
        """Show a row of the log."""
        text = " ".join(f"{name} {v:.4g}" if isinstance(v, float) else str(v) for name, v in values.items())
        self._bar.update(self._task, row=text)
        if self._tell is not None:
            rate = (time.monotonic() - self._began) / max(1, done - self._first)
            self._tell(f"{self._name} {done}/{self._total} {text}, {rate:.2f} s per step")
