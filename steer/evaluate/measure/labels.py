"""Masks and classes against the truth: the mean intersection over union, and the accuracy."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steer.errors import SteerError
from steer.evaluate.measure.images import images_in
from steer.evaluate.statistics import MIN_PROMPTS, Interval, bootstrap_mean, share
from steer.prompts.objects import parse
from steer.prompts.pictures.opening import opened_image
from steer.settings.strict_json import read_object
from steer.settings.text_files import read_text

IGNORED = 255
"""Number of pixels that belong to no class, in masks of numbers."""
MASK = re.compile(r"(.*)-mask")
"""Names of the masks that ``steer segment`` writes."""
FILES, CLASSES = ("file", "file_name"), ("class", "label")
"""Columns of tables of classes."""

Counts = NDArray[np.int64]


def confusion(found: NDArray[np.integer], truth: NDArray[np.integer], labels: int) -> Counts:
    """Return how many pixels of each true label got each label, ``[labels, labels]``, rows the truth.

    A found mask of another size is resized to the true one's, without blending.
    Pixels whose true label is outside 0…labels−1 do not count; those of a found one outside count as wrong.
    """
    found, counted = resized(found, truth.shape), (truth >= 0) & (truth < labels)
    wrong = (found < 0) | (found >= labels)
    codes = truth[counted].astype(np.int64) * (labels + 1) + np.where(wrong, labels, found)[counted]
    table: Counts = np.bincount(codes.ravel(), minlength=labels * (labels + 1)).reshape(labels, labels + 1)
    return table


def ious(table: Counts) -> NDArray[np.float64]:
    """Return the intersection over union of each label; NaN for one that neither side has."""
    labels = len(table)
    inside = np.diagonal(table[:, :labels]).astype(float)
    union = table.sum(axis=1) + table[:, :labels].sum(axis=0) - inside
    with np.errstate(invalid="ignore"):
        return np.where(union > 0, inside / union, np.nan)


def mean_iou(table: Counts) -> float:
    """Return the mean over the labels that either side has; NaN if no pixel counts."""
    each = ious(table)
    return float(np.nanmean(each)) if np.isfinite(each).any() else math.nan


def read_labels(file: Path) -> dict[str, tuple[int, int, int]]:
    """Read the colors of labels: ``{"sky": [0, 0, 255], …}``, as in the folders of ``steer train symmflow``.

    Raises:
        SteerError: if the file holds something else.
    """
    rows = read_object(file, "labels")
    for name, color in rows.items():
        right = isinstance(color, list) and len(color) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in color)
        if not right:
            raise SteerError(
                f"labels {file}: {name!r} has the color {str(color)[:40]}, expected three numbers of 0..255"
            )
    if len(set(map(tuple, rows.values()))) < len(rows) or not rows:
        raise SteerError(f"labels {file}: expected one or more labels, each with a color of its own")
    return {name: (color[0], color[1], color[2]) for name, color in rows.items()}


def read_mask(path: Path, colors: Sequence[tuple[int, int, int]] | None) -> NDArray[np.int64]:
    """Read a mask as labels ``[H, W]``.

    Args:
        path: a picture of the labels' colors; or, without colors, of their numbers in one channel or a palette.
        colors: of the labels, in order; the nearest counts, because pictures may be compressed.

    Raises:
        SteerError: for a picture of colors if none are known.
    """
    with opened_image(path.read_bytes(), f"mask {path}") as image:
        if colors is None:
            if image.mode not in ("L", "P", "1", "I", "I;16"):
                raise SteerError(
                    f"mask {path} is a color picture ({image.mode}); give the labels' colors with --labels FILE"
                )
            return np.array(image).astype(np.int64)
        pixels = np.array(image.convert("RGB")).astype(np.int64)
    codes, places = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    nearest = np.abs(codes[:, None] - np.array(colors)).sum(axis=2).argmin(axis=1)
    found: NDArray[np.int64] = nearest[places.reshape(-1)].reshape(pixels.shape[:2])
    return found


def mask_pairs(folder: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Return masks with their true ones: of the same name, ``x-mask.png`` (``steer segment``) counting as ``x``.

    Raises:
        SteerError: naming a mask without its counterpart.
    """
    there = {path.stem: path for path in images_in(truth, "reference")}
    masks = [path for path in images_in(folder, "folder") if not path.stem.endswith(("-overlay", "-confidence-map"))]
    pairs = []
    for path in masks:
        found = MASK.fullmatch(path.stem)
        name = found[1] if found and path.stem not in there else path.stem
        if name not in there:
            raise SteerError(f"mask {path} has no counterpart {name} in {truth}; masks of one image have the same name")
        pairs.append((path, there[name]))
    return pairs


def compared(found: Path, truth: Path, colors: Sequence[tuple[int, int, int]] | None, labels: int) -> Counts:
    """Return the confusion of two mask files."""
    return confusion(read_mask(found, colors), read_mask(truth, colors), labels)


def resized(mask: NDArray[np.integer], size: tuple[int, ...]) -> NDArray[np.integer]:
    """Return labels ``[H, W]`` at another size, without blending."""
    if mask.shape == size:
        return mask
    picture = Image.fromarray(mask.astype(np.int32)).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(picture)


def over_images(tables: Sequence[Counts]) -> Interval | None:
    """Return the mean over images of their own mean IoU, with its interval; ``None`` for too few images."""
    each = [mean_iou(table) for table in tables if table.sum()]
    return bootstrap_mean(each) if len(each) >= MIN_PROMPTS else None


class Classes:
    """Classes of files. A file is found by the end of its path, as far as both go; the longest match counts."""

    def __init__(self, rows: Mapping[str, str], place: Path) -> None:
        """Args: rows: class by path; place: where they come from, for messages."""
        self.rows, self.place = rows, place
        self._by_name: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for file, label in rows.items():
            parts = _parts(file)
            self._by_name.setdefault(parts[-1], []).append((parts, label))

    def of(self, file: str) -> str:
        """Return the class of a file.

        Raises:
            SteerError: if there is none, or several.
        """
        wanted = _parts(file)
        known = [(_match(wanted, parts), label) for parts, label in self._by_name.get(wanted[-1], [])]
        best = {label for match, label in known if match == max(match for match, _ in known)}
        if len(best) != 1:
            problem = f"classes {' and '.join(sorted(best)[:2])}" if best else "no class"
            raise SteerError(f"{file!r} has {problem} in {self.place}; expected one")
        return best.pop()


def read_classes(file: Path) -> Classes:
    """Read the class of each file from JSON (``steer classify --json``), JSON lines, CSV or TSV.

    Raises:
        SteerError: if a row has no file or no class, or a file has two classes.
    """
    found: dict[str, str] = {}
    for where, row in _rows(file):
        keys = {str(key).strip().lower(): value for key, value in row.items()} if isinstance(row, Mapping) else {}
        name, label = (next((keys[key] for key in known if key in keys), None) for known in (FILES, CLASSES))
        if not isinstance(name, str) or label is None or not _parts(name):
            raise SteerError(f"{where}: expected {' or '.join(FILES)}, and {' or '.join(CLASSES)}")
        if found.setdefault(name, str(label)) != str(label):
            raise SteerError(f"{where}: {name!r} has another class above")
    if not found:
        raise SteerError(f"{file} holds no class")
    return Classes(found, file)


def classes_of(place: Path) -> Classes:
    """Return the class of each file from a table, or from a folder with a subfolder per class.

    Raises:
        SteerError: if there is none.
    """
    if not place.is_dir():
        return read_classes(place)
    files = [path.relative_to(place) for path in images_in(place, "reference")]
    found = {path.as_posix(): path.parts[0] for path in files if len(path.parts) > 1}
    if not found:
        raise SteerError(f"{place} has no subfolders of images; expected one per class")
    return Classes(found, place)


def accuracy(found: Mapping[str, str], truth: Classes) -> tuple[Interval | None, float, int]:
    """Return the share of right classes with its interval (``None`` for too few), the share, and their number.

    Raises:
        SteerError: naming a file without its true class.
    """
    right = [float(label == truth.of(file)) for file, label in found.items()]
    interval = share(right) if len(right) >= MIN_PROMPTS else None
    return interval, float(np.mean(right)), len(right)


def _parts(file: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[/\\]", file) if part not in ("", "."))


def _match(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[int, bool]:
    """Return how many parts two paths share at their ends, and whether those are all of the known one."""
    pairs = zip(reversed(wanted), reversed(known), strict=False)
    shared = next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(known)))
    return shared, shared == len(known)


def _rows(file: Path) -> list[tuple[str, Any]]:
    text = read_text(file, "table of classes")
    if file.suffix.lower() in (".csv", ".tsv"):
        table = csv.DictReader(io.StringIO(text), delimiter="," if file.suffix.lower() == ".csv" else "\t")
        return [(f"{file}, row {number}", row) for number, row in enumerate(table, 1)]
    if file.suffix.lower() == ".json":
        data = parse(text, str(file))
        rows = data.get("rows", data) if isinstance(data, dict) else data
        return [
            (f"{file}, entry {number}", row) for number, row in enumerate(rows if isinstance(rows, list) else [], 1)
        ]
    lines = enumerate(text.split("\n"), 1)
    return [(f"{file}, line {n}", parse(line, f"{file}, line {n}")) for n, line in lines if line.strip()]
