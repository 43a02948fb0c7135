"""``steer download``: fetch weights before they are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from steer.cli.parts.shared import log_option
from steer.cli.parts.streams import json_option, put_json
from steer.errors import SteerError, unknown
from steer.models.downloads.lora_files import on_hub
from steer.models.downloads.weights import cached, fetch, has_variant, reachable
from steer.registry.declarations import Needed, Repository, Weights, size_text
from steer.registry.plugins import Plugins


@dataclass(frozen=True)
class Item:
    """Something to fetch, and the name that needs it."""

    name: str
    needed: Needed

    def row(self, path: Path, status: str) -> dict[str, Any]:
        """Return plain data; ``status`` is ``"cached"`` or ``"fetched"``."""
        file = self.needed.file if isinstance(self.needed, Weights) else None
        return {
            "name": self.name,
            "repo": self.needed.repo,
            "file": file,
            "size": _size(path),
            "license": self.needed.license,
            "status": status,
            "path": str(path),
        }


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Put the files into FOLDER/REPOSITORY, to copy to another machine, instead of the hub's cache.",
)
@click.option("--variant", metavar="NAME", help="Variant of a model's weights, such as fp16, if it has that.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of models.")
@json_option
@log_option
def download(names: tuple[str, ...], to: Path | None, variant: str | None, revision: str | None, as_json: bool) -> None:
    """Fetch the weights of rewards, methods, preview decoders and models, and the prompts of benchmarks.

    NAME is a reward or method as other commands take it (hps, hps:v2.0, clip:ViT-B-32/laion2b_s34b_b79k), a preview
    decoder (taesd), a benchmark (geneval), or a hub id (ORG/NAME). An interrupted download resumes; each file is
    verified.
    """
    from steer.registry.plugins import manager

    items = [Item(name, needed) for name in names for needed in find(name, manager(), revision)]
    missing = [item for item in items if to is not None or not _is_here(item.needed, variant)]
    unreachable = [item for item in missing if not reachable(item.needed)]
    if unreachable:
        raise SteerError(_out_of_reach(unreachable))
    rows = []
    for item in items:
        if item in missing:
            into = None if to is None else to / _folder(item.needed)
            rows.append(item.row(fetch(item.needed, into, variant=variant), "fetched"))
        else:
            path = cached(item.needed)
            assert path is not None
            rows.append(item.row(path, "cached"))
        if not as_json:
            _print(rows[-1])
    if as_json:
        put_json(rows)
    elif not rows:
        click.echo(f"{', '.join(names)}: nothing to fetch; the installation contains all it needs")


def _is_here(needed: Needed, variant: str | None) -> bool:
    """Whether the cache has what is needed, in the variant that is asked for."""
    path = cached(needed)
    return path is not None and (variant is None or not isinstance(needed, Repository) or has_variant(path, variant))


def find(name: str, plugins: Plugins, revision: str | None = None) -> list[Needed]:
    """Return what a name needs from the hub.

    Raises:
        SteerError: for an unknown name.
    """
    registry = plugins.registry
    plain, _, argument = name.partition(":")
    for known in (registry.rewards, registry.methods):
        if plain in known:
            return list(known[plain].weights(argument or None))
    if name in registry.benchmarks:
        return [file.needed for file in registry.benchmarks[name].load().files]
    if name in registry.models or name in registry.clips:
        return []
    from steer.models.options import PREVIEWS

    if name in PREVIEWS:
        return [Repository(PREVIEWS[name])]
    if (parts := on_hub(name)) is not None:
        repo, own, file = parts
        at = own or revision
        return [Repository(repo, revision=at) if file is None else Weights(repo, file, revision=at)]
    known_names = {
        *registry.rewards,
        *registry.methods,
        *registry.benchmarks,
        *registry.models,
        *registry.clips,
        *PREVIEWS,
    }
    raise unknown("name", name, known_names)


def _out_of_reach(missing: list[Item]) -> str:
    wanted = ", ".join(dict.fromkeys(item.needed.label for item in missing))
    place = "the hub" if all(getattr(item.needed, "url", None) is None for item in missing) else "the server"
    line = f"{place} cannot be reached for {wanted}; run this with --to FOLDER on a machine that can"
    first, folder = missing[0], f"FOLDER/{_folder(missing[0].needed)}"
    if isinstance(first.needed, Weights):
        plugin = first.name.partition(":")[0]
        return f"{line}, then copy FOLDER here and set -o {plugin}.{first.needed.option}={folder}"
    return f"{line}, then copy FOLDER here and pass {folder} instead of {first.name}"


def _folder(needed: Needed) -> str:
    return re.sub(r"[^\w.-]+", "-", needed.repo.rpartition("/")[2])


def _print(row: dict[str, Any]) -> None:
    what = row["repo"] if row["file"] is None else f"{row['repo']}: {row['file']}"
    done = "is already in the cache" if row["status"] == "cached" else "fetched and verified"
    click.echo(f"{row['name']}: {what} ({size_text(row['size'])}) {done}: {row['path']}")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
