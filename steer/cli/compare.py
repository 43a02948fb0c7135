"""``steer compare``: methods at equal cost, judged by what they were not steered by."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from steer.cli.bars import Bar
from steer.cli.config import default_model
from steer.cli.options import GroupedCommand, option
from steer.cli.prompts import how_read, prompt_options
from steer.cli.sampling import OUTPUT, SAMPLING, gathered, model_options, request_of, run_options
from steer.cli.shared import log_option, one_line, quiet_libraries
from steer.cli.tables import stdout, table
from steer.errors import SteerError
from steer.prompts.files import collect

COMPARED = "What is compared"
NO_METHODS = ("plain", "best-of-n", "fk")


@click.command(cls=GroupedCommand)
@click.argument("files", nargs=-1, metavar="PROMPTS…")
@prompt_options
@option(
    "--method",
    "methods",
    multiple=True,
    metavar="SPEC",
    group=COMPARED,
    help="What is compared: [NAME=]METHOD[+METHOD][:OPTION=VALUE,…], or plain; VALUE|VALUE is a sweep.",
)
@option("-r", "--reward", multiple=True, metavar="EXPR", group=COMPARED, help="What steers, as in clip:0.5+hps.")
@option("--judge", multiple=True, metavar="EXPR", group=COMPARED, help="What is compared by, held out; repeatable.")
@option(
    "--budget",
    multiple=True,
    metavar="nfe=N|seconds=S",
    group=COMPARED,
    help="What one prompt may cost; several, as in nfe=80,240.",
)
@option(
    "-o",
    "option",
    multiple=True,
    metavar="OWNER.OPTION=VALUE[,VALUE]",
    group=COMPARED,
    help="Option of a method, reward or entry; several values are a sweep.",
)
@option(
    "--tune",
    metavar="PROMPTS",
    group=COMPARED,
    help="Choose among swept values on these prompts, by the first judge.",
)
@option(
    "--success",
    type=float,
    metavar="SCORE",
    group=COMPARED,
    help="Score of the first judge that counts as a success.",
)
@option("--reference", metavar="NAME", group=COMPARED, help="What others are held against; best-of-n, else the first.")
@option(
    "--clock",
    type=click.Choice(("wall", "cpu")),
    default="wall",
    group=COMPARED,
    hidden=True,  # for benchmarks on machines that do other work too
    help="What seconds are: cpu is processor time.",
)
@option(
    "--embed",
    metavar="NAME",
    group=COMPARED,
    help="CLIP for the spread of images; shapes for that model, else none.",
)
@model_options
@run_options
@option(
    "--replicates",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    group=SAMPLING,
    help="Independent samples per prompt.",
)
@option(
    "--out",
    metavar="FOLDER",
    group=OUTPUT,
    help="Where to write, and what to go on with; outputs/compare-TIME by default.",
)
@option("--json", "as_json", is_flag=True, group=OUTPUT, help="Print the summary as JSON on stdout.")
@log_option
def compare(
    files: tuple[str, ...], methods: tuple[str, ...], option: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Compare methods on PROMPTS… at equal cost.

    Every method gets the same prompts, seeds and budget; the judge decides, and may not be what steers. Settings hold
    if a method says no others. Started again with the same --out, a comparison goes on where it was. The report is in
    report.html and report.md there.
    """
    if not files:
        raise SteerError("got no prompt file; expected one or more of .txt, .jsonl, .json, .csv, .tsv, .parquet or -")
    values = gathered({}, given)
    if "model" not in values:
        values["model"], source = default_model()
        click.echo(f"model: {values['model']} ({source})", err=True)
    out = values.get("out") or f"outputs/compare-{time.strftime('%Y%m%d-%H%M%S')}"
    tune = values.get("tune")
    reading = how_read(values)
    prompts, tuning = collect(files, **reading).prompts, collect([tune], **reading).prompts if tune else []
    sampling = request_of(values)

    from steer.evaluate.compare.run import Request, compare_all
    from steer.evaluate.compare.tables import tables

    quiet_libraries()
    request = Request(
        prompts,
        methods or NO_METHODS,
        sampling,
        tuning=tuning,
        budget=values.get("budget", ()),
        assignments=option,
        success=values.get("success"),
        reference=values.get("reference"),
        replicates=values["replicates"],
        embed=values.get("embed"),
        clock=values["clock"],
    )
    with Bar("loading", lines=True) as bar:
        summary = compare_all(request, out, tell=lambda what, done, total: bar.show(done, total, label=what))
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=1))
        return
    _print(tables(summary))
    click.echo(f"report: {one_line(out)}/report.html, report.md, summary.json")


def _print(found: Sequence[Any]) -> None:
    console = stdout()
    for each in found:
        shown = table(
            each.head, each.rows, text=sum(name in ("budget", "method") for name in each.head), title=each.title
        )
        # a narrow terminal breaks numbers rather than cut them off
        for number, column in enumerate(shown.columns):
            column.no_wrap, column.overflow = number < 2, "fold"
        console.print(shown)
