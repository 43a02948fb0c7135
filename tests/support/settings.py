"""Where a setting of runs is found: in help, run files, rows, a comparison's specs, recipes and the page's command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click


def places(name: str, value: Any, folder: Path) -> dict[str, Any]:
    """Return what each place makes of a setting's value; ``folder`` is for a run file."""
    from steer.cli.compare import compare
    from steer.cli.generate import RUN_KEYS, generate
    from steer.cli.parts.config import read_toml
    from steer.cli.parts.sampling_options import gathered
    from steer.cli.render import RENDER_KEYS, render
    from steer.evaluate.compare.spec import parse_entries
    from steer.prompts.rows import from_row
    from steer.registry.plugins import manager
    from steer.render.page.command import generate_command
    from steer.render.replay import settings_of
    from steer.settings.run_settings import SETTINGS, RunSettings

    setting = SETTINGS[name]
    found: dict[str, Any] = {}
    if setting.key:
        for command in (generate, render, compare):
            context = click.Context(command, help_option_names=["-h", "--help"])
            found[f"{command.name} --help"] = setting.flags[-1] in command.get_help(context)
        (folder / "run.toml").write_text(f"{setting.key} = {value!r}\n")
        for keys in (RUN_KEYS, RENDER_KEYS):
            typed = gathered(read_toml(folder / "run.toml", keys), {})
            found[f"run file of {len(keys)} keys"] = getattr(RunSettings.typed(typed), name)
        words = shlex.split(generate_command(recipe({name: value})))
        found["command of the page"] = type(value)(words[words.index(setting.flags[0]) + 1])
    for key in setting.rows:
        for typed_row in (True, False):
            row = {"prompt": "a", key.upper(): value if typed_row else str(value)}
            prompt = from_row(row, "a row", typed=typed_row)
            found[f"row's {key}, {'typed' if typed_row else 'text'}"] = {**prompt.settings, **prompt.metadata}[name]
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    for alias in {name, setting.key or name}:
        (entry,) = parse_entries([f"plain:{alias}={shown}"], (), manager())
        found[f"comparison's {alias}"] = entry.settings[name]
    in_json = list(value) if isinstance(value, tuple) else value
    found["recipe"] = getattr(settings_of(SimpleNamespace(settings={name: in_json})), name)
    return found


def recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as the page reads it."""
    prompt = {"text": "a", "id": "a", "seed": 1, "metadata": {}}
    empty: dict[str, Any] = {"methods": [], "reward": [], "options": {}, "choose": "all"}
    return {"model": "shapes", "prompt": prompt, "settings": dict(settings), **empty}


ADDED = """    made_up: Annotated[
        int | float | None, Setting("a made-up setting", 0, 1, flags=("--made-up",), rows=("made_up", "invented"))
    ] = None
"""
"""The one edit that a new setting takes."""


def with_one_more(folder: Path) -> None:
    """Load :mod:`steer.settings.run_settings` with one more setting; nothing may be imported before."""
    name, before = "steer.settings.run_settings", "    denoiser: Annotated["
    root = Path(__file__).resolve().parents[2]
    source = (root / "steer" / "settings" / "run_settings.py").read_text()
    assert source.count(before) == 1 and name not in sys.modules
    file = folder / "run_settings.py"
    file.write_text(source.replace(before, ADDED + before))
    spec = spec_from_file_location(name, file)
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
