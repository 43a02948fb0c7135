"""``steer plugins``: what is installed, whether it works, and every option it has."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from steer.errors import SteerError, unknown
from steer.models.downloads import weights
from steer.registry.plugins import manager
from steer.registry.registry import Entry
from steer.settings.options import describe

COLUMNS = ("kind", "name", "origin", "version", "health", "summary")
WIDE = 130
"""Columns from which on a list has room for summaries."""


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List all plugins with kind, origin, version and health."""
    if context.invoked_subcommand is not None:
        return
    rows = [_row(entry) for known in manager().registry.entries.values() for entry in known.values()]
    for broken in manager().broken:
        o = broken.origin
        rows.append({"kind": "plugin", "name": o.plugin, "origin": o.place, "version": o.version,
                     "health": f"broken: {broken.reason}", "summary": ""})  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    console = Console()
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # summaries make lines of five rows on a terminal of 80 columns; `show NAME` and --json have them
    shown = COLUMNS if console.width >= WIDE else COLUMNS[:-1]
    for column in shown:
        table.add_column(column, overflow="fold", no_wrap=column in ("kind", "version"))
    for row in rows:
        table.add_row(*(escape(_short(row["origin"]) if column == "origin" else row[column]) for column in shown))
    console.print(table)


@plugins.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def show(name: str, as_json: bool) -> None:
    """Show the options of the plugin NAME: type, default, range and meaning."""
    found = [known[name] for known in manager().registry.entries.values() if name in known]
    if not found:
        for broken in manager().broken:
            if broken.origin.plugin == name:
                raise SteerError(f"plugin {name!r} ({broken.origin.place}) is broken: {broken.reason}")
        raise unknown("plugin", name, {n for known in manager().registry.entries.values() for n in known})
    shown = [_details(entry) for entry in found]
    if as_json:
        click.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    console = Console()
    for details in shown:
        console.print(f"[bold]{details['kind']} {escape(name)}[/] — {escape(details['summary'])}", highlight=False)
        console.print(f"from {escape(details['origin'])} {details['version']}", highlight=False)
        for part in details["weights"]:
            ways = f"not cached: steer download {name}, or -o {name}.{part['option']}=PATH"
            known = [part["label"], part["licence"], "cached" if part["cached"] else ways]
            console.print(f"weights {escape(', '.join(filter(None, known)))}", highlight=False)
        if not details["options"]:
            console.print("no options")
        for row in details["options"]:
            facts = [row["type"], f"default {row['default']}", *([row["range"]] if row["range"] else [])]
            console.print(
                f"\n[bold]{escape(name)}.{escape(row['name'])}[/]  {escape(', '.join(facts))}", highlight=False
            )
            console.print(Padding(escape(row["meaning"]), (0, 0, 0, 4)), highlight=False)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind, "name": entry.name, "origin": f"{entry.origin.plugin}: {entry.origin.place}",
        "version": entry.origin.version, "health": entry.health, "summary": entry.summary,
    }  # fmt: skip


def _short(origin: str) -> str:
    """Return an origin without the plugin's own name, which the package's says again."""
    return origin.partition(": ")[2] or origin


def _details(entry: Entry) -> dict[str, Any]:
    declaration = getattr(entry.load(), "Options", None)
    options = [asdict(row) for row in describe(declaration)] if declaration is not None else []
    return {**_row(entry), "options": options, "weights": [weights.describe(one) for one in entry.weights()]}
