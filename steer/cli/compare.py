"""``steer compare``: methods at equal cost, judged by what they were not steered by."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from steer.cli.bars import Bar
from steer.cli.config import default_model
from steer.cli.shared import log_option, one_line
from steer.cli.tables import stdout, table
from steer.errors import SteerError
from steer.prompts.files import collect

NO_METHODS = ("plain", "best-of-n", "fk")


@click.command()
@click.argument("files", nargs=-1, metavar="PROMPTS…")
@click.option("-m", "--model", help="Model: a known name, a folder in diffusers format, or a hub id.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="SPEC",
    help="What is compared: [NAME=]METHOD[+METHOD][:OPTION=VALUE,…], or plain; VALUE|VALUE is a sweep.",
)
@click.option("-r", "--reward", multiple=True, metavar="EXPR", help="What steers, as in clip:0.5+hps.")
@click.option("--judge", multiple=True, metavar="EXPR", help="What is compared by, held out; repeatable.")
@click.option(
    "--budget", multiple=True, metavar="nfe=N|seconds=S", help="What a prompt may cost; several, as in nfe=80,240."
)
@click.option(
    "-o",
    "option",
    multiple=True,
    metavar="OWNER.OPTION=VALUE[,VALUE]",
    help="Option of a method, reward or entry; several values are a sweep.",
)
@click.option("--tune", metavar="PROMPTS", help="Choose among swept values on these prompts, by the first judge.")
@click.option("--success", type=float, metavar="SCORE", help="Score of the first judge that counts as a success.")
@click.option("--reference", metavar="NAME", help="What others are held against; best-of-n, else the first.")
@click.option("--replicates", type=click.IntRange(1), default=1, show_default=True, help="Seeds a prompt.")
@click.option("--seed", type=int, help="Seed of each prompt's first particle; hashed if left out.")
@click.option("--run-seed", type=int, default=0, show_default=True, help="What hashed seeds come from.")
@click.option("--steps", type=int, help="Denoising steps, where a method says no others.")
@click.option("--guidance", type=float, metavar="SCALE", help="Classifier-free guidance.")
@click.option("--eta", type=float, help="Stochasticity, 0..1.")
@click.option("--scheduler", help="ddim, ddpm, euler, …")
@click.option("--size", metavar="WxH", help="Image size in pixels.")
@click.option("--chunk", type=int, help="Particles a forward.")
@click.option("--embed", metavar="NAME", help="CLIP for the spread of images; shapes for that model, else none.")
@click.option(
    "--clock",
    type=click.Choice(("wall", "cpu")),
    default="wall",
    show_default=True,
    help="What seconds are: cpu is processor time, for machines that do other work too.",
)
@click.option("--device", help="cpu, cuda, …; CUDA if there is one.")
@click.option("--dtype", help="fp32, bf16 or fp16.")
@click.option(
    "--out", metavar="FOLDER", help="Where to write, and what to go on with; outputs/compare-TIME by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
@log_option
def compare(files: tuple[str, ...], option: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Compare methods on PROMPTS… at equal cost.

    Every method gets the same prompts, seeds and budget; the judge decides, and may not be what steers. Started again
    with the same --out, a comparison goes on where it was. The report is in report.html and report.md there.
    """
    from steer.cli.shared import quiet_libraries
    from steer.evaluate.compare.run import Request, compare_all
    from steer.evaluate.compare.tables import tables

    if not files:
        raise SteerError("got no prompt file; expected one or more of .txt, .jsonl, .json, .csv, .tsv, .parquet or -")
    out = given.pop("out") or f"outputs/compare-{time.strftime('%Y%m%d-%H%M%S')}"
    model, source = (given.pop("model"), None) if given.get("model") else default_model()
    given.pop("model", None)
    if source:
        click.echo(f"model: {model} ({source})", err=True)
    quiet_libraries()
    tune = given.pop("tune")
    request = Request(
        prompts=collect(list(files)).prompts, tuning=collect([tune]).prompts if tune else [], model=model,
        methods=list(given.pop("methods")) or list(NO_METHODS), assignments=list(option), **given,
    )  # fmt: skip
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
