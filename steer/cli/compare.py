"""``steer compare``: compare methods at equal cost by a held-out judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from steer.cli.parts.bars import Bar
from steer.cli.parts.config import default_model
from steer.cli.parts.folders import default_out
from steer.cli.parts.input_options import call_input_option, with_call_inputs
from steer.cli.parts.option_groups import GroupedCommand, option
from steer.cli.parts.prompt_options import drawn, how_read, prompt_options
from steer.cli.parts.sampling_options import OUTPUT, gathered, model_options, replicates_option, request_of, run_options
from steer.cli.parts.shared import log_option, one_line, quiet_libraries
from steer.cli.parts.streams import put_json, reserve
from steer.cli.parts.tables import stdout, table
from steer.errors import SteerError
from steer.prompts.files import collect

COMPARED = "Comparison"
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
    help="Method to compare: [NAME=]METHOD[+METHOD][:OPTION=VALUE,…], or plain; VALUE|VALUE is a sweep.",
)
@option("-r", "--reward", multiple=True, metavar="EXPR", group=COMPARED, help="Reward that steers, as in clip:0.5+hps.")
@option("--judge", multiple=True, metavar="EXPR", group=COMPARED, help="Held-out reward that decides; repeatable.")
@option(
    "--budget",
    multiple=True,
    metavar="nfe=N|seconds=S",
    group=COMPARED,
    help="Budget per prompt; nfe=80,240 sets two budgets.",
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
    help="Prompt file on which the first judge chooses among swept values.",
)
@option(
    "--success",
    type=float,
    metavar="SCORE",
    group=COMPARED,
    help="Score of the first judge that counts as a success.",
)
@option("--reference", metavar="NAME", group=COMPARED, help="Method to compare others with; best-of-n, else the first.")
@option(
    "--clock",
    type=click.Choice(("wall", "cpu")),
    default="wall",
    group=COMPARED,
    hidden=True,  # for benchmarks on machines that do other work too
    help="Clock that counts seconds: wall, or cpu for processor time.",
)
@option(
    "--embed",
    metavar="NAME",
    group=COMPARED,
    help="CLIP that measures the spread of images; shapes for the model shapes, else none.",
)
@call_input_option
@model_options
@run_options
@replicates_option
@option(
    "--out",
    metavar="FOLDER",
    group=OUTPUT,
    help="Output folder; resumes the comparison in it; outputs/compare-TIME by default.",
)
@option("--json", "as_json", is_flag=True, callback=reserve, group=OUTPUT, help="Print the summary as JSON on stdout.")
@log_option
def compare(
    files: tuple[str, ...], methods: tuple[str, ...], option: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Compare methods on PROMPTS… at equal cost.

    Every method gets the same prompts, seeds and budget. The judge decides; it must not be the reward that steers. A
    setting applies to each method that does not set its own. Run again with the same --out to resume a comparison.
    report.html and report.md in that folder hold the report.
    """
    if not files:
        raise SteerError("got no prompt file; expected one or more of .txt, .jsonl, .json, .csv, .tsv, .parquet or -")
    values = gathered({}, given)
    if "model" not in values:
        values["model"], source = default_model()
        click.echo(f"model: {one_line(values['model'])} ({source})", err=True)
    tune = values.get("tune")
    reading = how_read(values)
    tuning = collect([tune], **reading).prompts if tune else []
    prompts = drawn(collect(files, **reading).prompts, values, anew=False)
    sampling = request_of(values)
    prompts, tuning = (with_call_inputs(rows, values, sampling) for rows in (prompts, tuning))
    out = values.get("out") or default_out("compare-")

    from steer.evaluate.compare.compare_all import Request, compare_all
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
        replicates=values.get("replicates", 1),
        embed=values.get("embed"),
        clock=values["clock"],
    )
    with Bar("loading", lines=True) as bar:
        summary = compare_all(request, out, tell=lambda what, done, total: bar.show(done, total, label=what))
    if as_json:
        put_json(summary.as_dict())
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
