"""``steer generate``: render prompts, steered or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from steer.cli.parts.config import default_model, read_toml
from steer.cli.parts.folders import FORCE_HELP, default_out
from steer.cli.parts.input_options import (
    WithInputs,
    call_input_option,
    check_inputs,
    typed_inputs,
    with_call_inputs,
)
from steer.cli.parts.option_groups import option, run_file_keys
from steer.cli.parts.prompt_options import drawn, how_read, prompt_options
from steer.cli.parts.sampling_options import INPUT, OUTPUT, PLUGIN_OPTIONS, gathered, request_of, sampling_options
from steer.cli.parts.shared import log_option, one_line, quiet_libraries
from steer.cli.parts.streams import put_json, reserve
from steer.errors import SteerError
from steer.prompts.files import read_prompts
from steer.prompts.inputs import prompts_with
from steer.prompts.prompt import Prompt, as_prompts
from steer.registry.plugins import manager


@click.command(cls=WithInputs)
@click.argument("prompts", nargs=-1)
@option(
    "-f",
    "--file",
    group=INPUT,
    help="Prompt file: txt, jsonl, json, csv, tsv or parquet, or a folder of txt files; - reads lines from stdin.",
)
@prompt_options
@call_input_option
@option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    group=INPUT,
    in_file=False,
    help="Run file (TOML); options override it.",
)
@sampling_options
@option(
    "--baseline/--no-baseline",
    default=None,
    group=OUTPUT,
    help="Also sample the same prompts without methods, and compare.",
)
@option("--out", metavar="FOLDER", group=OUTPUT, help="Output folder; outputs/TIME by default.")
@option("--force", is_flag=True, group=OUTPUT, in_file=False, help=FORCE_HELP)
@option(
    "--json",
    "as_json",
    is_flag=True,
    callback=reserve,
    group=OUTPUT,
    in_file=False,
    help="Print the result as JSON on stdout.",
)
@log_option
def generate(prompts: tuple[str, ...], as_json: bool, force: bool, config: Path | None, **given: Any) -> None:
    """Render PROMPTS, steered or not.

    Without PROMPTS and --file, the bundled examples are rendered, or one image per input if the command gives inputs
    such as --mask. Images carry their recipe; `steer replay` reproduces them.
    """
    values = gathered(read_toml(config, RUN_KEYS) if config else {}, given)
    if prompts:
        values["prompts"] = list(prompts)
    # what was typed replaces the run file's prompts, whichever way they are given there
    if prompts and given["file"] is None:
        values.pop("file", None)
    elif given["file"] is not None and not prompts:
        values.pop("prompts", None)
    notes: list[str] = []
    rows, drawn_from = _prompts_and_inputs(values, notes)
    if "model" not in values:
        values["model"], source = default_model()
        notes.append(f"model: {values['model']} ({source})")
    request = request_of(values)
    rows = with_call_inputs(rows, values, request)
    out = values.get("out") or default_out()

    from steer.cli.parts.generate_progress import GenerationProgress
    from steer.cli.parts.generate_report import print_report
    from steer.cli.parts.interrupt import Interrupt
    from steer.render.generate import generate as sample_into

    quiet_libraries()
    for note in notes:  # only now: a mistake in the command is reported alone
        click.echo(one_line(note), err=True)
    with Interrupt() as interrupt:
        watcher, baseline = GenerationProgress(interrupt), bool(values.get("baseline"))
        made = sample_into(rows, request, out, watcher, baseline=baseline, drawn_from=drawn_from, force=force)
    if as_json:
        put_json(made.data)
    else:
        print_report(made.items, made.plain, made.cost, out)


RUN_KEYS = {**run_file_keys(generate.params), **PLUGIN_OPTIONS, "prompts": list, "inputs": dict}
"""Keys of a run file: the options' names, with lists where an option can be repeated."""


def examples() -> Path:
    """Return the bundled prompt file: inside the package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data" / "prompts", package.parent / "prompts"):
        if (folder / "shapes.jsonl").is_file():
            return folder / "shapes.jsonl"
    raise FileNotFoundError("the example prompts are missing from the installation")


def _prompts_and_inputs(values: dict[str, Any], notes: list[str]) -> tuple[list[Prompt], list[str]]:
    """Return the prompts, and the inputs that stand in for them if no prompts were given."""
    inputs = {**check_inputs(values.pop("inputs", {})), **typed_inputs()}
    reading = how_read(values)
    known = {name: entry.load() for name, entry in manager().registry.entries["input"].items()}
    named = [name for name, value in inputs.items() if not isinstance(value, bool)]
    alone = bool(named) and not {"prompts", "file"} & values.keys()
    return prompts_with(
        None if alone else drawn(_prompts(values, reading, notes), values, anew=False), inputs, known
    ), named if alone else []


def _prompts(values: dict[str, Any], reading: dict[str, Any], notes: list[str]) -> list[Prompt]:
    if "prompts" in values and "file" in values:
        raise SteerError("got both prompts and a prompt file; give one of the two")
    if "file" in values or values.get("prompts") == ["-"]:
        return read_prompts(values.get("file", "-"), **reading)
    if reading["column"] is not None:
        raise SteerError("--column names a column of a prompt file; name the file by --file, or drop --column")
    if "prompts" in values:
        return as_prompts(values["prompts"])
    path = examples()
    rows = read_prompts(path)
    notes.append(f"prompts: the {len(rows)} bundled examples ({path.name})")
    return rows
