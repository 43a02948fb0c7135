"""Writes the table of tested pipeline classes in docs/models.md: ``PYTHONPATH=tests python docs/make_pipelines.py``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("models.md")
BEGIN, END = "<!-- pipelines: made by docs/make_pipelines.py -->", "<!-- end of pipelines -->"


def table() -> str:
    """Return the table: the classes that go through ``tests/models/stock``."""
    from support.any_pipelines import image_kinds
    from support.video_pipelines import video_kinds

    head = ["| class | task | tested with the inputs | works |", "|---|---|---|---|"]
    rows = sorted(
        f"| `{kind.name}` | {kind.task} | {', '.join(f'`{name}`' for name in kind.inputs) or '–'} | {works(kind)} |"
        for kind in (*image_kinds(), *video_kinds())
    )
    return "\n".join([BEGIN, "", *head, *rows, "", END])


def works(kind: Any) -> str:
    """Return what a test has shown to work."""
    scheduler = kind.noisy.get("scheduler")
    fk = f"`fk` (with `--scheduler {scheduler}`)" if scheduler else "`fk`"
    return f"stock, {fk}, `best-of-n`{', `--chunk`' if kind.rows > 1 else ''}"


def page(text: str) -> str:
    """Return the page with the table of today."""
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table(), text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
