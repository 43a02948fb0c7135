"""``steer render``: render prompt files; run again, it renders exactly what is missing."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from steer.cli.parts.config import default_model, read_toml
from steer.cli.parts.engines import engine_of, engine_options
from steer.cli.parts.folders import default_out
from steer.cli.parts.input_options import call_input_option, with_call_inputs
from steer.cli.parts.option_groups import GroupedCommand, option, run_file_keys
from steer.cli.parts.prompt_options import drawn, how_read, prompt_options
from steer.cli.parts.sampling_options import (
    INPUT,
    OUTPUT,
    PLUGIN_OPTIONS,
    as_draft,
    draft_option,
    events_option,
    gathered,
    replicates_option,
    request_of,
    sampling_options,
)
from steer.cli.parts.shared import log_option, one_line, quiet_libraries
from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.render.spec import MAX_REPLICATES

LIMITS = {"replicates": (1, MAX_REPLICATES), "previews": (0, 10_000), "workers": (1, 65_536)}


@click.command(cls=GroupedCommand)
@click.argument("files", nargs=-1, metavar="FILE…")
@prompt_options
@call_input_option
@option(
    "--config", metavar="FILE", group=INPUT, in_file=False, help="Run file (TOML), a path or URL; options override it."
)
@option(
    "--skip-bad",
    is_flag=True,
    group=INPUT,
    in_file=False,
    help="Skip and report lines that cannot be read.",
)
@option("--retry-failed", is_flag=True, group=INPUT, in_file=False, help="Retry prompts that failed before.")
@sampling_options
@replicates_option
@draft_option
@option("--out", metavar="PLACE", group=OUTPUT, help="Output folder or fsspec URL; outputs/TIME by default.")
@option(
    "--layout", metavar="images|geneval", group=OUTPUT, help="Layout of the folder; GenEval's evaluation reads geneval."
)
@option(
    "--previews",
    type=int,
    metavar="STEPS",
    group=OUTPUT,
    help="Keep previews of the final image for the page, at this number of steps.",
)
@option(
    "--dry-run",
    is_flag=True,
    group=OUTPUT,
    in_file=False,
    help="Show the plan, its cost and disk space; download and write nothing.",
)
@events_option
@engine_options
@log_option
def render(
    files: tuple[str, ...],
    skip_bad: bool,
    retry_failed: bool,
    dry_run: bool,
    as_json: bool,
    config: str | None,
    draft: int | None,
    **given: Any,
) -> None:
    """Render the prompts of FILE… (txt, jsonl, json, csv, tsv, parquet, folders of txt files; - is stdin).

    A line may set its own seed, size, steps, guidance, negative, particles, options and category. Run again with the
    same --out to render exactly what is missing.
    """
    values = gathered(_run_file(config) if config else {}, given)
    if files:
        values["file"] = list(files)
    as_draft(values, draft)
    for name, (low, high) in LIMITS.items():
        if not low <= values.get(name, low) <= high:
            raise SteerError(f"{name}={str(values[name])[:60]}: expected {low}..{high}")
    prompts = drawn(_prompts(values, skip_bad), values, anew=True)
    notes: list[str] = []
    if "model" not in values:
        values["model"], source = default_model()
        notes.append(f"model: {values['model']} ({source})")
    request = request_of(values)
    with _offline(dry_run):
        prompts = with_call_inputs(prompts, values, request)
    out = values.get("out") or default_out(make=not dry_run)

    from steer.cli.parts.render_progress import JsonEvents, ProgressLine, print_plan
    from steer.render import Renderer, Spec

    quiet_libraries()
    for note in notes:  # only now: a mistake in the command is reported alone
        click.echo(one_line(note), err=True)
    watcher = JsonEvents() if as_json else ProgressLine()
    renderer = Renderer(
        out,
        Spec(request, replicates=values.get("replicates", 1), previews=values.get("previews", 0)),
        engine_of(values, watcher),
        layout=values.get("layout", "images"),
        values={name: value for name, value in values.items() if name != "layout"},
        retry_failed=retry_failed,
        watcher=watcher,
    )
    if dry_run:
        with _offline(dry_run):
            plan = renderer.plan(prompts)
        print_plan(plan, out, as_json)
        return
    with watcher:
        summary = renderer.render(prompts)
    if summary.stopped:
        sys.exit(130)
    sys.exit(1 if summary.failed else 0)


def _offline(dry_run: bool) -> AbstractContextManager[None]:
    """Return the context of a dry run, in which nothing is downloaded."""
    from steer.models.downloads.fetching import closed

    return closed() if dry_run else nullcontext()


RENDER_KEYS = {**run_file_keys(render.params), **PLUGIN_OPTIONS, "file": list, "versions": dict}
"""Keys of a run file, also of the one that a render writes into its folder."""


def _run_file(place: str) -> dict[str, Any]:
    """Read a run file. One that a render wrote means the folder that it is in now, even if that was moved."""
    values = read_toml(place, RENDER_KEYS)
    if values.pop("versions", None) and place.replace("\\", "/").rpartition("/")[2] == "run.toml":
        from steer.results.storage import storage_at

        folder = place.removesuffix("run.toml").rstrip("/\\") or "."
        if storage_at(folder).read("prompts.jsonl") is not None:
            values |= {"out": folder, "file": [f"{folder}/prompts.jsonl"]}
    return values


def _prompts(values: dict[str, Any], skip_bad: bool) -> list[Prompt]:
    from steer.prompts.files import collect

    if not values.get("file"):
        raise SteerError("got no prompt file; expected one or more of .txt, .jsonl, .json, .csv, .tsv, .parquet or -")
    found = collect(values["file"], skip_bad=skip_bad, **how_read(values))
    for error in found.bad:
        click.echo(f"steer: warning: skipped: {one_line(str(error))}", err=True)
    return found.prompts
