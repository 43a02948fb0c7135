"""``steer new``: start a plugin package."""

from __future__ import annotations

from pathlib import Path

import click

from steer.cli.parts.shared import log_option, one_line

out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Folder for the package's folder."
)


@click.group()
def new() -> None:
    """Start a plugin package of your own."""


@new.command()
@click.argument("name")
@out_option
@log_option
def reward(name: str, out: Path) -> None:
    """Create a package with the reward NAME."""
    _create("reward", name, out, f"steer check reward {name}")


@new.command()
@click.argument("name")
@out_option
@log_option
def method(name: str, out: Path) -> None:
    """Create a package with the method NAME."""
    _create("method", name, out, f"steer generate --plugin {name}")


def _create(kind: str, name: str, out: Path, then: str) -> None:
    from steer.registry.plugins import manager
    from steer.testing.scaffold import create

    files = create(kind, name, out, manager())
    for path in files:
        click.echo(one_line(str(path)))
    click.echo(f"next: pip install -e {one_line(str(files[0].parent))} && {then}")
