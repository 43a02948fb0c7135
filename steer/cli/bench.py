"""``steer bench``: a published benchmark by one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steer.cli.parts.bars import Bar
from steer.cli.parts.config import default_model
from steer.cli.parts.engines import engine_of, engine_options
from steer.cli.parts.folders import default_out
from steer.cli.parts.option_groups import GroupedCommand, option
from steer.cli.parts.prompt_options import how_read
from steer.cli.parts.sampling_options import OUTPUT, gathered, request_of, sampling_options
from steer.cli.parts.shared import log_option, one_line, quiet_libraries
from steer.cli.parts.streams import put_json, reserve
from steer.cli.parts.tables import stdout, table
from steer.errors import SteerError

if TYPE_CHECKING:
    from steer.evaluate.bench.run import Bench

STAGES = ("render", "score", "report")
BENCH = "Benchmark"
OWN = ("limit", "shard", "images", "prompts", "plain", "name", "judge", "out")
"""Options that no render has."""


@click.command(cls=GroupedCommand)
@click.argument("benchmark", required=False, metavar="NAME")
@option("--limit", type=click.IntRange(1), metavar="N", group=BENCH, help="At most N prompts, spread evenly over all.")
@option("--shard", metavar="I/N", group=BENCH, help="The I-th of N parts of the prompts, for several machines.")
@option(
    "--images", type=click.IntRange(1), metavar="N", group=BENCH, help="Images per prompt; by default as published."
)
@option("--prompts", metavar="PATH", group=BENCH, help="Your copy of the prompt file, or a folder with the files.")
@option("--stage", type=click.Choice(STAGES), multiple=True, group=BENCH, help="This stage alone; repeatable.")
@option("--plain/--no-plain", default=None, group=BENCH, help="Also run the model without methods; yes by default.")
@option("--name", metavar="NAME", group=BENCH, help="Name of the row; the methods' names by default.")
@option("--batch", type=click.IntRange(1), default=16, show_default=True, group=BENCH, help="Images per judge's call.")
@sampling_options
@option("--out", metavar="FOLDER", group=OUTPUT, help="Output folder; resumes; outputs/bench-TIME by default.")
@option("--json", "as_json", is_flag=True, callback=reserve, group=OUTPUT, help="Print the summary as JSON on stdout.")
@engine_options
@log_option
def bench(benchmark: str | None, as_json: bool, **given: Any) -> None:
    """Run benchmark NAME: render its prompts, judge the images, and print the figures with intervals.

    Without NAME, list the benchmarks. With a method, the model is run without it too, and the difference is shown. Run
    again with the same --out to resume, or with another method for a further row. --judge EXPR, or MEASURE=EXPR, takes
    another judge; report.html in the folder shows images and reasons.
    """
    from steer.registry.plugins import manager

    known = manager().registry.benchmarks
    if benchmark is None:
        _list(known, as_json)
        return
    entry = manager().registry.get("benchmark", benchmark)
    stages = given.pop("stage") or STAGES
    values = gathered({}, given)
    if "model" not in values:
        values["model"], source = default_model()
        click.echo(f"model: {one_line(values['model'])} ({source})", err=True)
    batch = values.pop("batch")
    asked = _bench(benchmark, entry.load(), values)
    asked.check()
    quiet_libraries()
    failed = 0
    if "render" in stages:
        failed += _render(asked, values)
    if "score" in stages:
        failed += _score(asked, batch)
    if "report" in stages:
        _report(asked, as_json)
    sys.exit(1 if failed else 0)


def _list(known: Any, as_json: bool) -> None:
    rows = [(name, entry.summary, entry.origin.plugin) for name, entry in sorted(known.items())]
    if as_json:
        put_json([{"name": name, "summary": summary, "plugin": plugin} for name, summary, plugin in rows])
        return
    stdout().print(table(("benchmark", "what", "from"), rows, text=3))


def _bench(name: str, benchmark: Any, values: dict[str, Any]) -> Bench:
    """Return what is asked; takes the options that no render has out of ``values``."""
    from steer.evaluate.bench.folder import slug_of
    from steer.evaluate.bench.judges import with_judges
    from steer.evaluate.bench.prompts import parse_shard, prompts_of, some
    from steer.evaluate.bench.run import Bench, columns_of
    from steer.rewards.by_name import reward_names

    own = {key: values.pop(key) for key in OWN if key in values}
    how_read(values)
    judged = with_judges(benchmark, own.get("judge", ()))
    owners = reward_names(list(judged.judges)) - reward_names(values.get("reward", []))
    options = {owner: values["options"].pop(owner) for owner in list(values["options"]) if owner in owners}
    request = request_of(values)
    shared = {owner: values["options"][owner] for owner in reward_names(list(judged.judges)) & values["options"].keys()}
    given = own.get("prompts")
    prompts = prompts_of(name, judged, None if given is None else Path(given))
    part, shard = some(prompts, own.get("limit")), parse_shard(own.get("shard"))
    if shard is not None:
        count, part = len(part), part[shard[0] - 1 :: shard[1]]
        if not part:
            raise SteerError(f"shard {own['shard']} has none of the {count} prompts; give at most {count} shards")
    out = own.get("out") or default_out("bench-")
    if "://" in out:
        raise SteerError(f"--out {out}: images are scored from a folder of this machine; give one")
    columns = columns_of(own.get("name", ""), request, values, plain=own.get("plain", True))
    for column in columns:
        slug_of(column.name)
    return Bench(
        name, judged, prompts, part, columns, Path(out), own.get("images", judged.images), shard,
        {**options, **shared}, values.get("device"),
    )  # fmt: skip


def _render(asked: Bench, values: dict[str, Any]) -> int:
    from steer.cli.parts.render_progress import ProgressLine
    from steer.evaluate.bench.run import render

    failed = 0
    for summary in render(asked, lambda watcher: engine_of(values, watcher), ProgressLine):
        failed += summary.failed
        if summary.stopped:
            click.echo("run the same command again to resume", err=True)
            sys.exit(130)
    return failed


def _score(asked: Bench, batch: int) -> int:
    from steer.evaluate.bench.run import score

    failed = 0
    with Bar("scoring", lines=True) as bar:
        for error in score(asked, batch=batch, tell=lambda done, total, what: bar.show(done, total, label=what)):
            failed += 1
            bar.say(f"steer: warning: {one_line(str(error))}")
    return failed


def _report(asked: Bench, as_json: bool) -> None:
    from steer.evaluate.bench.summary import report

    found, tables = report(asked)
    for text in found.missing:
        click.echo(f"steer: warning: {one_line(text)}", err=True)
    if as_json:
        put_json(found.as_dict())
        return
    for one in tables:
        shown = table(one.head, one.rows, text=1, title=one.title)
        for column in shown.columns:
            column.overflow = "fold"
        stdout().print(shown)
        click.echo(one_line(one.note))
    click.echo(f"report: {one_line(str(asked.out))}/report.html, report.md, summary.json")
