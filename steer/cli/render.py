"""``steer render``: render prompt files; started again, it makes exactly what is missing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from steer.cli.config import default_model, read_toml
from steer.cli.sampling import SAMPLING_KEYS, arguments_of, gathered, model_options_of, sampling_options
from steer.cli.shared import log_option, one_line
from steer.errors import SteerError
from steer.prompts.prompt import Prompt

if TYPE_CHECKING:
    from steer.render import Spec
    from steer.render.renderer import MakeEngine

ENGINES = ("local", "ray")
RENDER_KEYS = {
    **SAMPLING_KEYS, "file": list, "out": str, "layout": str, "replicates": int, "previews": int, "engine": str,
    "address": str, "workers": int, "versions": dict,
}  # fmt: skip
"""Keys of a run file; the one that a render leaves in its folder holds them too."""


@click.command()
@click.argument("files", nargs=-1, metavar="FILE…")
@sampling_options
@click.option("--replicates", type=int, help="Draw every prompt so often, with independent noise.")
@click.option("--previews", type=int, metavar="STEPS", help="Keep previews of x0 at so many steps, for the page.")
@click.option("--out", metavar="PLACE", help="Folder, or any URL that fsspec knows; outputs/TIME by default.")
@click.option("--layout", help="images, or geneval for the tree that GenEval's evaluation reads.")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be read; they are reported.")
@click.option("--retry-failed", is_flag=True, help="Also try prompts again that failed before.")
@click.option("--engine", help="local, or ray for many GPUs and machines.")
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster; without it Ray runs on this machine.")
@click.option("--workers", type=int, help="Ray workers; by default one a GPU, or two without GPUs.")
@click.option("--dry-run", is_flag=True, help="Show the plan, its cost and disk space, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines on stdout.")
@click.option("--config", metavar="FILE", help="Run file (TOML), a path or URL; options override it.")
@log_option
def render(
    files: tuple[str, ...], option: tuple[str, ...], skip_bad: bool, retry_failed: bool, dry_run: bool, as_json: bool,
    config: str | None, **given: Any,
) -> None:  # fmt: skip
    """Render the prompts of FILE… (txt, jsonl, json, csv, tsv, parquet; - is stdin).

    A line may set its own seed, size, steps, guidance, negative, particles, options and category. Started again with
    the same --out, it makes exactly what is missing.
    """
    values = gathered(_run_file(config) if config else {}, given, option)
    if files:
        values["file"] = list(files)
    prompts = _prompts(values, skip_bad)
    if "model" not in values:
        values["model"], source = default_model()
        click.echo(f"model: {values['model']} ({source})", err=True)
    out = values.get("out") or f"outputs/{time.strftime('%Y%m%d-%H%M%S')}"
    for name, low in (("replicates", 1), ("previews", 0), ("workers", 1)):
        if values.get(name, low) < low:
            raise SteerError(f"{name}={values[name]}: expected {low} or more")
    engine = values.get("engine", "local")
    if engine not in ENGINES:
        raise SteerError(f"engine {engine!r}: expected {' or '.join(ENGINES)}")

    from steer.cli.shared import quiet_libraries
    from steer.cli.watching import JsonEvents, ProgressLine, print_plan
    from steer.render import Renderer

    quiet_libraries()
    spec = _spec(values)
    watcher = JsonEvents() if as_json else ProgressLine()
    renderer = Renderer(
        out, spec, _engine(engine, values, watcher), layout=values.get("layout", "images"),
        values={name: value for name, value in values.items() if name != "layout"}, retry_failed=retry_failed,
        watcher=watcher,
    )  # fmt: skip
    if dry_run:
        print_plan(renderer.plan(prompts), out, as_json)
        return
    with watcher:
        summary = renderer.render(prompts)
    if summary.stopped:
        sys.exit(130)
    sys.exit(1 if summary.failed else 0)


def _run_file(place: str) -> dict[str, Any]:
    """Read a run file. One that a render left tells of its own folder, wherever that was moved since."""
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
    found = collect(values["file"], skip_bad=skip_bad)
    for error in found.bad:
        click.echo(f"steer: warning: skipped: {one_line(str(error))}", err=True)
    return found.prompts


def _spec(values: dict[str, Any]) -> Spec:
    """Return what decides the images, after looking every name up: a typing error must not wait for the model."""
    from steer.models.options import ModelOptions, parse_loras
    from steer.registry.plugins import manager
    from steer.render import Spec
    from steer.rewards.by_name import check_judges
    from steer.sampling.methods_by_name import check_names
    from steer.settings.run import SETTINGS, check_setting

    arguments = arguments_of(values)
    for name in SETTINGS:
        if arguments.get(name) is not None:
            check_setting(name, arguments[name])
    check_judges(arguments["reward"], arguments["judge"])
    check_names(arguments["methods"], [*arguments["reward"], *arguments["judge"]], arguments["options"], manager())
    model_options = model_options_of(values)
    model_options["loras"] = parse_loras(model_options["loras"])
    ModelOptions(**model_options)
    return Spec(
        model=values["model"], model_options=model_options, device=values.get("device"), dtype=values.get("dtype"),
        arguments=arguments, seed=values.get("seed"), replicates=values.get("replicates", 1),
        previews=values.get("previews", 0),
    )  # fmt: skip


def _engine(name: str, values: dict[str, Any], observer: object) -> MakeEngine:
    if name == "ray":
        from steer.render.ray_engine import RayEngine

        return lambda spec: RayEngine(spec, address=values.get("address"), workers=values.get("workers"))
    for option in ("address", "workers"):
        if values.get(option) is not None:
            raise SteerError(f"--{option} is for --engine ray; add that, or drop --{option}")
    from steer.render.local import LocalEngine

    return lambda spec: LocalEngine(spec, observers=[observer])
