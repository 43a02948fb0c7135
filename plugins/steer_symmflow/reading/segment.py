"""``steer segment``: masks of images, by running the flow backward from them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steer.plugin import force_option, log_option
from steer_symmflow.reading.options import reading_options

if TYPE_CHECKING:
    from PIL import Image

    from steer_symmflow.model import SymmFlowConfig
    from steer_symmflow.reading.common import Reading


@click.command()
@reading_options("symmflow:masks")
@click.option("--truth", type=click.Path(path_type=Path), metavar="FOLDER", help="True masks, of the images' names.")
@click.option("--out", metavar="FOLDER", help="Folder for masks and overlays; outputs/TIME by default.")
@force_option
@log_option
def command(
    images: tuple[Path, ...], model: str, device: str | None, dtype: str | None, as_json: bool, as_csv: bool,
    truth: Path | None, out: str | None, force: bool, **how: Any,
) -> None:  # fmt: skip
    """Segment IMAGES: files, and folders with their contents.

    Each gets a color mask of its own size, an overlay, and a map of the share of noise draws that agree. With --truth,
    the mean intersection over union is printed. Files that cannot be read are reported, the others are segmented, and
    the exit code is 1.
    """
    # imported here: help should not wait for torch
    from steer.plugin import claim, default_out, find_images, image_bytes, quiet_libraries
    from steer_symmflow.reading.common import open_model, readings
    from steer_symmflow.reading.tables import check_format, print_rows
    from steer_symmflow.reading.truth import Truth

    check_format(as_json, as_csv)
    paths = find_images(images)
    judge = None if truth is None else Truth(truth, paths)
    quiet_libraries()
    network = open_model(model, "masks", device, dtype)
    stems = "|".join(re.escape(_plain(path.stem)) for path in paths)
    written = re.compile(rf"({stems})(-\d+)?-(mask|overlay|confidence-map)\.png", re.IGNORECASE)
    place = claim(out or default_out(), lambda name: written.fullmatch(name) is not None, force=force)
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    used: set[str] = set()
    for reading in readings(network, paths, "segmenting", errors, **how):
        row, pictures = _row(network.config, reading)
        stem = _unique(_plain(reading.path.stem), used)
        for kind, picture in pictures.items():
            name = f"{stem}-{kind}.png"
            place.write(name, image_bytes(picture))
            row[kind] = place.url(name)
        if judge is not None:
            row["miou"] = judge.add(reading, network.config)
        rows.append(row)
    extra = {} if judge is None else judge.summary(network.config)
    print_rows(rows, errors, as_json=as_json, as_csv=as_csv, extra=extra)
    if rows and not (as_json or as_csv):
        click.echo(f"masks and overlays: {place.name}")
    sys.exit(1 if errors else 0)


def _row(config: SymmFlowConfig, reading: Reading) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Return an image's row and its pictures."""
    from steer_symmflow.reading.overlay import gray_picture, mask_picture, overlay

    sure, labels = reading.votes.max(dim=0)
    size = reading.picture.height, reading.picture.width
    mask = mask_picture(config, labels.numpy(), size)
    shares = {name: float((labels == number).float().mean()) for number, name in enumerate(config.labels)}
    row = {"file": str(reading.path), "confidence": float(sure.mean()), "share": shares}
    pictures = {"mask": mask, "overlay": overlay(config, reading.picture, mask),
                "confidence-map": gray_picture(sure.numpy(), size)}  # fmt: skip
    return row, pictures


def _plain(stem: str) -> str:
    """Return a file's stem for the names of its pictures: without characters that a terminal or a page would interpret,
    and short enough for a suffix (most file systems allow 255 bytes)."""
    safe = re.sub(r"[^\w .,+=@-]", "_", stem)
    return safe.encode()[:180].decode(errors="ignore")


def _unique(stem: str, used: set[str]) -> str:
    """Return a name that is unique within the run, also on file systems that ignore case."""
    name, number = stem, 1
    while name.lower() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.lower())
    return name
