"""``steer generate``: render prompts, steered or not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from steer.cli.config import default_model, read_toml
from steer.cli.inputs import WithInputs, check_inputs, typed_inputs
from steer.cli.sampling import SAMPLING_KEYS, arguments_of, gathered, model_options_of, sampling_options
from steer.cli.shared import log_option
from steer.errors import SteerError
from steer.prompts.files import read_prompts
from steer.prompts.inputs import prompts_with
from steer.prompts.prompt import Prompt, as_prompts
from steer.registry.plugins import manager

RUN_KEYS = {**SAMPLING_KEYS, "prompts": list, "file": str, "out": str, "baseline": bool, "inputs": dict}
"""Keys of a run file: the options' names, with lists where an option can be repeated."""


@click.command(cls=WithInputs)
@click.argument("prompts", nargs=-1)
@click.option("-f", "--file", help="Prompt file: txt, jsonl, json, csv, tsv or parquet; - reads lines from stdin.")
@sampling_options
@click.option("--baseline/--no-baseline", default=None, help="Also draw the same prompts unsteered, and compare.")
@click.option("--out", metavar="FOLDER", help="Where to write; outputs/TIME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Run file (TOML); options override it.")
@log_option
def generate(
    prompts: tuple[str, ...], option: tuple[str, ...], as_json: bool, config: Path | None, **given: Any
) -> None:
    """Render PROMPTS, steered or not.

    Without PROMPTS and --file, the examples that ship are rendered; for a model that draws from something else than a
    text, one image of each such input. Images carry their recipe; `steer replay` makes one again.
    """
    values = gathered(read_toml(config, RUN_KEYS) if config else {}, given, option)
    if prompts:
        values["prompts"] = list(prompts)
    # what was typed replaces the run file's prompts, whichever way they are given there
    if prompts and given["file"] is None:
        values.pop("file", None)
    elif given["file"] is not None and not prompts:
        values.pop("prompts", None)
    notes: list[str] = []
    inputs = {**check_inputs(values.pop("inputs", {})), **typed_inputs()}
    known = {name: entry.load() for name, entry in manager().registry.entries["input"].items()}
    alone = any(not isinstance(value, bool) for value in inputs.values()) and not {"prompts", "file"} & values.keys()
    rows = prompts_with(None if alone else _prompts(values, notes), inputs, known)
    model, source = (values["model"], None) if "model" in values else default_model()
    if source:
        notes.append(f"model: {model} ({source})")
    out = values.get("out") or f"outputs/{time.strftime('%Y%m%d-%H%M%S')}"
    arguments = {**arguments_of(values), "seed": values.get("seed")}

    from steer.cli.session import render

    render(
        rows,
        model=model,
        model_options=model_options_of(values),
        device=values.get("device"),
        dtype=values.get("dtype"),
        out=out,
        baseline=bool(values.get("baseline")),
        as_json=as_json,
        arguments=arguments,
        notes=notes,
        drawn_from=[name for name, value in inputs.items() if not isinstance(value, bool)] if alone else [],
    )


def examples() -> Path:
    """Return the prompt file that ships: inside the package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data" / "prompts", package.parent / "prompts"):
        if (folder / "shapes.jsonl").is_file():
            return folder / "shapes.jsonl"
    raise FileNotFoundError("the example prompts are missing from the installation")


def _prompts(values: dict[str, Any], notes: list[str]) -> list[Prompt]:
    if "prompts" in values and "file" in values:
        raise SteerError("got both prompts and a prompt file; give one of the two")
    if "prompts" in values:
        if values["prompts"] == ["-"]:
            return read_prompts("-")
        return as_prompts(values["prompts"])
    if "file" in values:
        return read_prompts(values["file"])
    path = examples()
    rows = read_prompts(path)
    notes.append(f"prompts: the {len(rows)} examples that ship ({path.name})")
    return rows
