"""``steer plugins``: the installed plugins, their health and their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from steer.cli.parts.streams import json_option, put_json, reserve
from steer.cli.parts.tables import stdout, table
from steer.errors import SteerError, unknown
from steer.models.downloads import weights
from steer.registry.health import health
from steer.registry.plugins import manager
from steer.registry.registry import Entry
from steer.settings.options import describe

COLUMNS = ("kind", "name", "origin", "version", "health", "summary")
WIDE = 130
"""Terminal columns from which on summaries are shown."""
FIRST = ("method", "reward", "model")
"""The kinds that are listed without ``--all``."""


@click.group(invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="List every kind, also training data and commands.")
@click.option("--check", is_flag=True, help="Import each plugin and report those that fail; takes longer.")
@click.option("--json", "as_json", is_flag=True, callback=reserve, help="Print the whole list as JSON on stdout.")
@click.pass_context
def plugins(context: click.Context, everything: bool, check: bool, as_json: bool) -> None:
    """List methods, rewards and models with origin, version and health, and everything that is broken."""
    if context.invoked_subcommand is not None:
        return
    rows = [_row(entry, entry.health if check else health(entry)) for entry in manager().registry]
    for broken in manager().broken:
        o = broken.origin
        rows.append(
            {"kind": "plugin", "name": o.plugin, "origin": o.place, "version": o.version}
            | {"health": f"broken: {broken.reason}", "summary": ""}
        )
    if as_json:
        put_json(rows)
        return
    shown = [row for row in rows if everything or row["kind"] in FIRST or row["health"] != "ok"]
    console = stdout()
    # in 80 columns a summary would wrap over five rows; `show NAME` and --json have it
    columns = COLUMNS if console.width >= WIDE else COLUMNS[:-1]
    console.print(
        table(columns, ([(row | {"origin": _short(row["origin"])})[name] for name in columns] for row in shown))
    )
    if len(shown) < len(rows):
        console.print(f"{len(rows) - len(shown)} more: steer plugins --all")


@plugins.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the options of the plugin NAME: type, default, range and meaning."""
    found = [entry for entry in manager().registry if entry.name == name]
    if not found:
        for broken in manager().broken:
            if broken.origin.plugin == name:
                raise SteerError(f"plugin {name!r} ({broken.origin.place}) is broken: {broken.reason}")
        raise unknown("plugin", name, {entry.name for entry in manager().registry})
    shown = [_details(entry) for entry in found]
    if as_json:
        put_json(shown)
        return
    console = Console()
    for details in shown:
        console.print(f"[bold]{details['kind']} {escape(name)}[/] — {escape(details['summary'])}", highlight=False)
        console.print(f"from {escape(details['origin'])} {details['version']}", highlight=False)
        for part in details["weights"]:
            ways = f"not cached: steer download {name}, or -o {name}.{part['option']}=PATH"
            known = [part["label"], part["license"], "cached" if part["cached"] else ways]
            console.print(f"weights {escape(', '.join(filter(None, known)))}", highlight=False)
        if "sizing" in details:
            console.print(escape(_sizing_text(name, details["sizing"])), highlight=False)
        if not details["options"]:
            console.print("no options")
        for row in details["options"]:
            facts = [row["type"], f"default {row['default']}", *([row["range"]] if row["range"] else [])]
            console.print(
                f"\n[bold]{escape(name)}.{escape(row['name'])}[/]  {escape(', '.join(facts))}", highlight=False
            )
            console.print(Padding(escape(row["meaning"]), (0, 0, 0, 4)), highlight=False)


def _row(entry: Entry, health: str) -> dict[str, Any]:
    origin = f"{entry.origin.plugin}: {entry.origin.place}"
    facts = (entry.kind, entry.name, origin, entry.origin.version, health, entry.summary)
    return dict(zip(COLUMNS, facts, strict=True))


def _short(origin: str) -> str:
    """Return an origin without the plugin's name, which the package's name repeats."""
    return origin.partition(": ")[2] or origin


def _details(entry: Entry) -> dict[str, Any]:
    loaded = entry.load()
    declaration = getattr(loaded, "Options", None)
    options = [asdict(row) for row in describe(declaration)] if declaration is not None else []
    # a target that is not a method has no sizing; its health says so
    sizing = {"sizing": loaded.sizing()} if entry.kind == "method" and hasattr(loaded, "sizing") else {}
    needed = [weights.describe(one) for one in entry.weights()]
    return {**_row(entry, "ok"), **sizing, "options": options, "weights": needed}


def _sizing_text(name: str, sizing: Mapping[str, Any]) -> str:
    """Return a method's sizing in words."""
    size = sizing["size_option"]
    facts = [f"size {'--particles' if size is None else f'{name}.{size}'}"]
    if sizing["least_particles"] > 1:
        facts.append(f"at least {sizing['least_particles']} particles per prompt")
    bounds = (("evaluations", sizing["budget_option"]), ("seconds", sizing["clock_option"]))
    facts += [f"{what} bounded by {name}.{option}" for what, option in bounds if option is not None]
    return ", ".join(facts)
