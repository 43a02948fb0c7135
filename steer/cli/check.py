"""``steer check``: check whether a plugin fulfills its contract."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from steer.cli.parts.folders import claim, force_option
from steer.cli.parts.shared import log_option, one_line
from steer.cli.parts.streams import put_json, reserve
from steer.errors import SteerError
from steer.settings.options import parse_assignments

MARKS = {"passed": "[green]passed[/]", "failed": "[red]failed[/]", "skipped": "[dim]skipped[/]"}


@click.group()
def check() -> None:
    """Check whether a plugin fulfills its contract."""


@check.command()
@click.argument("name")
@click.option("-o", "option", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Plugin option; repeatable.")
@click.option("--device", help="cpu, cuda, …; CUDA if there is one.")
@click.option("--batch", type=click.IntRange(2), default=8, show_default=True, help="Samples per check.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Write the report and pictures there.")
@force_option
@click.option("--json", "as_json", is_flag=True, callback=reserve, help="Print the report as JSON on stdout.")
@log_option
def reward(
    name: str, option: tuple[str, ...], device: str | None, batch: int, out: Path | None, force: bool, as_json: bool
) -> None:
    """Check the reward NAME, an expression or ./file.py:function; exit code 1 if a check fails."""
    from steer.cli.parts.shared import quiet_libraries
    from steer.models.device import pick_device
    from steer.registry.plugins import manager
    from steer.rewards.by_name import make_reward
    from steer.sampling.methods_by_name import check_owners
    from steer.testing import check_reward
    from steer.testing.report import REPORT_FILES, write_report

    options = parse_assignments(option)
    check_owners(options, [], [name])
    quiet_libraries()
    place = pick_device(device)
    made = make_reward([name], options, manager(), place)
    if made is None:
        raise SteerError("got no reward to check")
    # a single reward is checked itself: the sum around it would turn an integer score into a float
    alone = made.terms[0][2] if len(made.terms) == 1 and made.terms[0][1] == 1 else made
    if out:
        claim(out, REPORT_FILES.__contains__, force=force)
    report = check_reward(alone, name=name, device=place, batch=batch)
    files = write_report(report, out) if out else []
    if as_json:
        put_json({**report.as_dict(), "files": files})
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        console = Console(highlight=False, emoji=False)
        table = Table(title=escape(f"reward {one_line(name)}"), title_justify="left")
        for column in ("check", "outcome", "details"):
            table.add_column(column, overflow="fold", no_wrap=column != "details")
        for row in report.checks:
            table.add_row(row.name, MARKS[row.status], escape(one_line(row.detail)))
        console.print(table)
        failed = sum(row.status == "failed" for row in report.checks)
        console.print(f"{failed} of {len(report.checks)} checks failed" if failed else "fulfills its contract")
        for path in files:
            console.print(escape(one_line(str(path))), soft_wrap=True)
    sys.exit(0 if report.ok else 1)
