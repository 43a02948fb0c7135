"""``steer finish``: render in full the drafts that a person picked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from steer.cli.parts.engines import engine_of, engine_options
from steer.cli.parts.folders import default_out
from steer.cli.parts.option_groups import GroupedCommand, option
from steer.cli.parts.sampling_options import INPUT, MODEL, OUTPUT, SAMPLING, events_option, request_of
from steer.cli.parts.shared import log_option, quiet_libraries
from steer.errors import SteerError


@click.command(cls=GroupedCommand)
@click.argument("files", nargs=-1, metavar="PICK…", type=click.Path(path_type=Path))
@option(
    "--picks",
    metavar="FILE",
    group=INPUT,
    in_file=False,
    help="A list of picks, one file per line, as the page copies it; - is stdin.",
)
@option("--steps", type=int, metavar="STEPS", group=SAMPLING, help="Denoising steps; by default the model's own.")
@option("--device", group=MODEL, help="cpu, cuda, …; CUDA if there is one.")
@option("--out", metavar="PLACE", group=OUTPUT, help="Output folder or fsspec URL; outputs/TIME by default.")
@events_option
@engine_options
@log_option
def finish(files: tuple[Path, ...], picks: str | None, steps: int | None, as_json: bool, **given: Any) -> None:
    """Render in full the samples of `steer render --draft` in the files PICK….

    Seed, slot and settings are those of the draft, except the steps: with a deterministic sampler (--eta 0, or a
    scheduler without noise) the finished sample is the draft, sharper. Run again with the same --out to resume.
    """
    from steer.cli.parts.render_progress import JsonEvents, ProgressLine
    from steer.render import Renderer, Spec
    from steer.render.finish import finished_prompts, finished_run, run_folder
    from steer.render.runfile import read_run
    from steer.results.storage import storage_at

    chosen = [*files, *(_listed(picks) if picks is not None else [])]
    folder = run_folder(chosen)
    prompts = finished_prompts(chosen)
    values = finished_run(read_run(storage_at(str(folder))))
    values |= {name: value for name, value in {**given, "steps": steps}.items() if value is not None}
    request = request_of(values)
    out = values.get("out") or default_out()
    quiet_libraries()
    watcher = JsonEvents() if as_json else ProgressLine()
    layout = values.pop("layout", "images")
    renderer = Renderer(
        out,
        Spec(request, previews=values.get("previews", 0)),
        engine_of(values, watcher),
        layout=layout,
        values=values,
        watcher=watcher,
    )
    with watcher:
        summary = renderer.render(prompts)
    if summary.stopped:
        sys.exit(130)
    sys.exit(1 if summary.failed else 0)


def _listed(place: str) -> list[Path]:
    """Return the files that a list names; relative ones are those from here."""
    from steer.settings.text_files import lines_of, read_text

    text = sys.stdin.read() if place == "-" else read_text(Path(place), "list of picks")
    found = [Path(line.strip()) for line in lines_of(text) if line.strip()]
    if not found:
        raise SteerError(f"{place} lists no picks; expected one file per line")
    return found
