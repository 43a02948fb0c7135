"""``steer classify``: classes of images, by running the flow backward from them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steer.plugin import force_option, log_option
from steer_symmflow.reading.options import reading_options

if TYPE_CHECKING:
    from steer.plugin import Cell

SHEET = "classes.png"


@click.command()
@reading_options("symmflow:classes")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="PLACE",
    help="True classes: a table of file and class, or a folder with a subfolder per class.",
)
@click.option("--out", metavar="FOLDER", help="Folder for a sheet of the images with their classes; none by default.")
@force_option
@log_option
def command(
    images: tuple[Path, ...], model: str, device: str | None, dtype: str | None, as_json: bool, as_csv: bool,
    truth: Path | None, out: str | None, force: bool, **how: Any,
) -> None:  # fmt: skip
    """Classify IMAGES: files, and folders with their contents.

    The confidence is the share of draws of the noise that agree. With --truth, the accuracy is printed. Files that
    cannot be read are reported, the others are classified, and the exit code is 1.
    """
    # imported here: help should not wait for torch
    from steer.plugin import (
        MAX_CELLS,
        accuracy,
        claim,
        classes_of,
        contact_sheet,
        find_images,
        image_bytes,
        quiet_libraries,
    )
    from steer_symmflow.reading.common import open_model, readings
    from steer_symmflow.reading.tables import check_format, print_rows

    check_format(as_json, as_csv)
    paths = find_images(images)
    right = None if truth is None else classes_of(truth)
    if right is not None:
        for path in paths:  # what has no true class is said before the work
            right.of(str(path))
    quiet_libraries()
    network = open_model(model, "classes", device, dtype)
    place = None if out is None else claim(out, SHEET.__eq__, force=force)
    names = network.config.labels
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    cells: list[Cell] = []
    for reading in readings(network, paths, "classifying", errors, **how):
        label = names[int(reading.votes.argmax())]
        shares = dict(zip(names, reading.votes.tolist(), strict=True))
        rows.append({"file": str(reading.path), "class": label, "confidence": shares[label], "share": shares})
        if place is not None and len(cells) < MAX_CELLS:
            cells.append((reading.picture, f"{reading.path.name}: {label}", f"{shares[label]:.2f}"))
    if place is not None and cells:
        place.write(SHEET, image_bytes(contact_sheet(cells)))
    extra: dict[str, Any] = {}
    if right is not None and rows:
        interval, value, count = accuracy({row["file"]: row["class"] for row in rows}, right)
        limits = {} if interval is None else {"low": interval.low, "high": interval.high}
        extra = {"accuracy": {"value": value, **limits, "images": count}}
    print_rows(rows, errors, as_json=as_json, as_csv=as_csv, extra=extra)
    sys.exit(1 if errors else 0)
