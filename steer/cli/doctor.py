"""``steer doctor``: versions, devices, plugins and caches, and what this machine can run."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from steer.cli.parts.shared import one_line
from steer.cli.parts.streams import json_option, put_json
from steer.cli.parts.tables import table


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="FOLDER|ID",
    help="Say where this model runs: a folder in diffusers format, or a hub id whose configurations are in the hub's "
    "cache. Repeatable.",
)
@json_option
def doctor(models: tuple[str, ...], as_json: bool) -> None:
    """Check the installation: versions, devices, memory, plugins, cached weights, what can run here."""
    from steer.cli.parts.diagnosis import diagnose
    from steer.cli.parts.shared import quiet_libraries
    from steer.registry.plugins import manager

    quiet_libraries()
    data = diagnose(manager(), models)
    if as_json:
        put_json(data)
        return
    _print(data, Console())


def _print(data: dict[str, Any], console: Console) -> None:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in data["packages"].items())
    console.print(f"[bold]Python[/] {data['python']} on {data['platform']}", highlight=False)
    console.print(f"[bold]packages[/] {escape(versions)}", highlight=False)
    devices = []
    for device in data["devices"]:
        memory = device["memory_gb"] or data["memory_gb"]
        devices.append((device["name"], escape(device["model"]), f"{memory} GB" if memory else "?"))
    console.print(table(("name", "model", "memory"), devices, title="devices"))
    if data["models"]:
        rows = [(escape(name), escape(verdict)) for name, verdict in data["models"].items()]
        console.print(table(("model", "verdict"), rows, title="what can run here (one image, half precision on a GPU)"))
    cache = data["cache"]
    offline = ", offline mode is on" if cache["offline"] else ""
    folder = escape(cache["folder"])
    console.print(f"[bold]hub cache[/] {folder}, {cache['free_gb']} GB free{offline}", highlight=False)
    for name, size in cache["repositories"].items():
        console.print(f"  {escape(name)}: {size} GB", highlight=False)
    _print_weights(data["weights"], console)
    healthy = sum(row["health"] == "ok" for row in data["plugins"])
    console.print(
        f"[bold]plugins[/] {healthy} of {len(data['plugins'])} work (steer plugins lists them)", highlight=False
    )
    for problem in data["problems"]:
        console.print(f"[red]problem[/] {escape(one_line(problem))}", highlight=False)
    if not data["problems"]:
        console.print("[green]no problem found[/]")


def _print_weights(rows: list[dict[str, Any]], console: Console) -> None:
    missing: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if not row["cached"]:
            missing.setdefault(row["name"], []).append(row)
    names = dict.fromkeys(row["name"] for row in rows)
    here = [name for name in names if name not in missing]
    console.print(f"[bold]weights of plugins[/] cached: {escape(', '.join(here)) or 'none'}", highlight=False)
    for name, parts in missing.items():
        files = ", ".join(row["label"] for row in parts)
        told = escape(f"{name}: steer download {name} fetches {files}")
        console.print(f"  {told}", highlight=False, soft_wrap=True)
