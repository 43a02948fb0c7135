"""Help: options in groups, commands of a group on lines of their own."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from support.commands import Steer

from steer.cli.app import app
from steer.cli.parts.engines import ENGINES
from steer.cli.render import render
from steer.models.device import DTYPES
from steer.models.options import OFFLOADS, VAE_SAVINGS
from steer.models.quantize import PACKAGES
from steer.render.spec import LAYOUTS
from steer.sampling.chosen_particles import CHOICES
from steer_symmflow import flow
from steer_symmflow.reading.options import SOLVERS

GROUPS = {
    "generate": ["Input", "Model", "Sampling", "Steering", "Output", "Other"],
    "render": ["Input", "Model", "Sampling", "Steering", "Output", "Machines", "Other"],
    "replay": ["Input", "Model", "Output", "Other"],
    "compare": ["Input", "Comparison", "Model", "Sampling", "Output", "Other"],
    "bench": ["Benchmark", "Model", "Sampling", "Steering", "Output", "Machines", "Other"],
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


def test_help_shows_the_choices_of_closed_sets() -> None:
    closed = {"dtype": DTYPES, "offload": OFFLOADS, "quantize": PACKAGES,
              "vae_memory": VAE_SAVINGS, "choose": CHOICES, "layout": LAYOUTS,
              "engine": ENGINES}  # fmt: skip
    shown = {option.name: option.metavar for option in render.params if option.name in closed}
    assert shown == {name: "|".join(values) for name, values in closed.items()}
    assert tuple(flow.SOLVERS) == SOLVERS


def test_a_group_without_a_command_lists_its_commands(steer: Steer) -> None:
    done = steer("train")
    assert (done.code, done.out) == (2, "")
    commands = [line.split()[0] for line in done.err.split("Commands:")[1].splitlines() if line.startswith("  ")]
    assert {"dmd2", "shapes", "symmflow", "text"} <= set(commands)
    line = next(line for line in steer("--help").out.splitlines() if line.startswith("  train "))
    assert line.split(maxsplit=1)[1] == "Train one of dmd2, shapes, symmflow, text."


def test_help_of_no_command_imports_torch() -> None:
    code = (
        "import sys; from steer.cli.app import App, app; from steer.cli.commands import BUILT_IN\n"
        "for command in [*BUILT_IN, *(' '.join((verb, noun)).strip() for verb, nouns in App._plugin_commands().items()"
        " for noun in nouns)]:\n"
        "    app.main([*command.split(), '--help'], standalone_mode=False)\n"
        "    heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") > 15
