"""``steer segment``: masks of images, by running the flow from them backwards."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import click
from PIL import Image

from steer import scoring
from steer.cli.shared import CountBar, log_option, one_line, quiet_libraries
from steer.storage import storage_at
from steer_symmflow.model import SymmFlowConfig
from steer_symmflow.reading.common import Reading, open_model, read_all, reading_options
from steer_symmflow.reading.overlay import grey_picture, mask_picture, overlay
from steer_symmflow.reading.tables import check_format, print_rows


@click.command()
@reading_options("symmflow:masks")
@click.option("--out", metavar="FOLDER", help="Where masks and overlays go; outputs/TIME by default.")
@log_option
def command(
    images: tuple[Path, ...], model: str, device: str | None, dtype: str | None, as_json: bool, as_csv: bool,
    out: str | None, **how: Any,
) -> None:  # fmt: skip
    """Segment IMAGES: files, and folders with all that is in them.

    Each gets a color mask of its own size, an overlay, and a map of how many draws of the noise agree. Files that
    cannot be read are reported, the others are segmented, and the exit code is 1.
    """
    check_format(as_json, as_csv)
    paths = scoring.find_images(images)
    quiet_libraries()
    network = open_model(model, "masks", device, dtype)
    place = storage_at(out or f"outputs/{time.strftime('%Y%m%d-%H%M%S')}")
    place.check()
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    used: set[str] = set()
    with CountBar(len(paths), "segmenting") as bar:
        for outcome in read_all(network, paths, **how):
            bar.advance()
            if not isinstance(outcome, Reading):
                errors.append(str(outcome))
                click.echo(f"steer: warning: {one_line(str(outcome))}", err=True)
                continue
            row, pictures = _row(network.config, outcome)
            stem = _unique(outcome.path.stem, used)
            for kind, picture in pictures.items():
                name = f"{stem}-{kind}.png"
                place.write(name, _png(picture))
                row[kind] = place.url(name)
            rows.append(row)
    print_rows(rows, errors, as_json=as_json, as_csv=as_csv)
    if rows and not (as_json or as_csv):
        click.echo(f"masks and overlays: {place.name}")
    sys.exit(1 if errors else 0)


def _row(config: SymmFlowConfig, reading: Reading) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Return an image's row and its pictures."""
    sure, labels = reading.votes.max(dim=0)
    height, width = reading.pixels.shape[1:]
    mask = mask_picture(config, labels.numpy(), (height, width))
    image = Image.fromarray((reading.pixels * 255).round().byte().permute(1, 2, 0).numpy())
    shares = {name: float((labels == number).float().mean()) for number, name in enumerate(config.labels)}
    row = {"file": str(reading.path), "confidence": float(sure.mean()), "share": shares}
    pictures = {"mask": mask, "overlay": overlay(config, image, mask),
                "confidence-map": grey_picture(sure.numpy(), (height, width))}  # fmt: skip
    return row, pictures


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _unique(stem: str, used: set[str]) -> str:
    """Return a name that no other image of the run has, on file systems that tell no case too."""
    name, number = stem, 1
    while name.lower() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.lower())
    return name
