"""Writes docs/commands.md from the help of every command: ``python docs/make_commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from steer.cli.app import app as steer

PAGE = Path(__file__).with_name("commands.md")

INTRODUCTION = """# Commands

Made from the commands' own help by `python docs/make_commands.py`; do not edit by hand.

What holds for all of them (folders, streams, exit codes, run files, seeds): [Running](running.md).
"""

WIDTH = 100


def page() -> str:
    """Return the page: every command, those of plugins too, with its help."""
    return "\n".join(
        [INTRODUCTION, *_entries(steer, click.Context(steer, info_name="steer", **steer.context_settings))]
    )


def _entries(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = context.max_content_width = WIDTH
    command._help_option = None  # click keeps the one that was made first, by whatever context asked for it
    yield f"## {context.command_path}\n"
    yield f"```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _entries(below, click.Context(below, parent=context, info_name=name))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
