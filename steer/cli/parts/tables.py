"""Tables on stdout, all in one style."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from steer.cli.parts.shared import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def stdout() -> Console:
    """Return a console that prints text as it is: no markup, no highlighting."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text: int | None = None, title: str = "") -> Table:
    """Return a table.

    Args:
        head: names of the columns, each of one line or several.
        rows: cells of each row.
        text: number of columns from the left that hold text; all by default. A narrow terminal wraps text, but not the
            numbers in the other columns.
        title: shown above.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, name in enumerate(head):
        shown = "\n".join(map(one_line, name.split("\n")))
        if text is None or number < text:
            made.add_column(shown, overflow="fold")
        else:
            made.add_column(shown, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*map(one_line, row))
    return made
