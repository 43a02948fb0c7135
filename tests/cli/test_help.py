"""Help: options in groups, commands of a group on lines of their own."""

from __future__ import annotations

import click
import pytest
from support.commands import Steer

from steer.cli.app import app

GROUPS = {
    "generate": ["Input", "Model", "Sampling", "Steering", "Output", "Other"],
    "render": ["Input", "Model", "Sampling", "Steering", "Output", "Machines", "Other"],
    "replay": ["Input", "Model", "Output", "Other"],
    "compare": ["Input", "Comparison", "Model", "Sampling", "Output", "Other"],
}


@pytest.mark.parametrize("name", GROUPS)
def test_every_option_is_in_a_group(name: str) -> None:
    context = click.Context(app, **app.context_settings)
    command = app.get_command(context, name)
    assert command is not None
    text = command.get_help(click.Context(command, info_name=name, parent=context))
    titles = [line.removesuffix(":") for line in text.splitlines()[1:] if line.endswith(":") and line[0] != " "]
    assert titles == GROUPS[name]
    others = [line.split()[0] for line in text.split("Other:")[1].splitlines() if line[2:3] == "-"]
    assert others == ["--log", "-h,"]


def test_a_group_without_a_command_lists_its_commands(steer: Steer) -> None:
    done = steer("train")
    assert (done.code, done.out) == (2, "")
    commands = [line.split()[0] for line in done.err.split("Commands:")[1].splitlines() if line.startswith("  ")]
    assert {"dmd2", "shapes", "symmflow", "text"} <= set(commands)
    line = next(line for line in steer("--help").out.splitlines() if line.startswith("  train "))
    assert line.split(maxsplit=1)[1] == "Train one of dmd2, shapes, symmflow, text."
