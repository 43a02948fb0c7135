"""The folder of a comparison: its arguments, the fitted sizes of methods, and the rows so far."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from typing import Any

from PIL import Image

from steer.errors import SteerError
from steer.evaluate.compare.measure import COST, Row
from steer.evaluate.compare.spec import Entry
from steer.models.media.image import image_bytes
from steer.results.claims import check_others
from steer.results.storage import storage_at
from steer.settings.run_settings import renewed
from steer.settings.strict_json import json_text

ASKED, FITS, SOURCES, CELLS, IMAGES = "compare.json", "fits.json", "sources.json", "cells", "images"


class Folder:
    """Keeps a comparison's rows, so that an interrupted one resumes."""

    def __init__(self, place: str) -> None:
        self.storage = storage_at(place)

    @contextmanager
    def open(self, asked: Mapping[str, Any]) -> Iterator[None]:
        """Lock the folder within the block, after checking that it holds the same comparison.

        A comparison without rows, for example after a budget that was too small, is started over.

        Raises:
            SteerError: if the folder holds another one, naming the differences.
        """
        self.storage.check()
        with self.storage.lock():
            check_others(self.storage, "compare")
            stored, plain = _said(self._json(ASKED)), _said(json.loads(json_text(asked)))
            if stored is None or (stored != plain and not self.storage.sizes(CELLS)):
                if stored is not None:
                    self.storage.remove(FITS)
                self._write(ASKED, plain)
            elif stored != plain:
                different = sorted(k for k in {*stored, *plain} if stored.get(k) != plain.get(k))
                raise SteerError(
                    f"{self.storage.name} holds a comparison with another {' and '.join(different)}; choose another "
                    "--out, or repeat that command to resume it"
                )
            try:
                yield
            finally:
                self.storage.close()

    # ---- fits ------------------------------------------------------------------------------------------

    def fit(self, cell: str) -> Entry | None:
        """Return the fitted options of a cell's entry, if it was fitted."""
        stored = (self._json(FITS) or {}).get(cell)
        if stored is None:
            return None
        try:
            entry = Entry(**{**stored, "methods": tuple(stored["methods"])})
            if not _is_entry(entry):
                raise TypeError
        except (TypeError, KeyError):
            raise self._damaged(FITS) from None
        return entry

    def keep_fit(self, cell: str, entry: Entry) -> None:
        """Keep the fitted options of a cell's entry."""
        self._write(FITS, {**(self._json(FITS) or {}), cell: asdict(entry)})

    def check_sources(self, cell: str, sources: Mapping[str, str]) -> None:
        """Note what a cell's samples and scores come from, by :meth:`Measurer.sources`.

        Raises:
            SteerError: if those in the folder come from other weights or files.
        """
        noted = self._json(SOURCES) or {}
        before = noted.get(cell, {}) if self.rows(cell) else {}
        if not isinstance(before, dict):
            raise self._damaged(SOURCES)
        other = sorted(name for name in before.keys() & sources.keys() if before[name] != sources[name])
        if other:
            raise SteerError(
                f"{self.storage.name} holds samples of {cell.rpartition(' ')[0]!r} that were made or scored by other "
                f"weights or files ({', '.join(other)}); choose another --out, or delete the folder"
            )
        if before != (now := {**before, **sources}):
            self._write(SOURCES, {**noted, cell: now})

    # ---- rows ------------------------------------------------------------------------------------------

    def rows(self, cell: str) -> dict[str, Row]:
        """Return a cell's rows so far by prompt id; damaged lines are left out."""
        found: dict[str, Row] = {}
        for line in self.storage.lines(f"{CELLS}/{slug(cell)}.jsonl"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if _is_row(row):
                found[row["id"]] = row
        return found

    def add(self, cell: str, rows: Sequence[Row]) -> None:
        """Append rows; finished lines stay if the next one is cut off."""
        lines = "".join(f"{json_text(row)}\n" for row in rows)
        self.storage.append(f"{CELLS}/{slug(cell)}.jsonl", lines.encode())

    def keep_image(self, cell: str, number: int, image: Image.Image) -> None:
        """Keep an example; ``number`` is that of its prompt."""
        self.storage.write(self.image_name(cell, number), image_bytes(image))

    def image(self, cell: str, number: int) -> Image.Image | None:
        """Return a kept example."""
        data = self.storage.read(self.image_name(cell, number))
        return None if data is None else Image.open(BytesIO(data)).convert("RGB")

    @staticmethod
    def image_name(cell: str, number: int) -> str:
        """Return an example's file name within the folder."""
        return f"{IMAGES}/{slug(cell)}/{number:05d}.png"

    def _json(self, name: str) -> Any:
        data = self.storage.read(name)
        try:
            found = {} if data is None else json.loads(data)
            if not isinstance(found, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise self._damaged(name) from None
        return None if data is None else found

    def _damaged(self, name: str) -> SteerError:
        return SteerError(f"{self.storage.url(name)} is damaged; delete the folder or choose another --out")

    def _write(self, name: str, data: Any) -> None:
        self.storage.write(name, f"{json_text(data, indent=1)}\n".encode())


def _said(asked: Any) -> Any:
    """Return a comparison's arguments by the names of today, without the unset ones, which differ between versions."""
    if asked is None:
        return None
    options = asked.get("model_options")
    today = {**asked, "model_options": renewed(options)} if isinstance(options, dict) else asked
    return {name: value for name, value in today.items() if value not in (None, {})}


def _is_entry(entry: Entry) -> bool:
    texts = [entry.label, entry.family, *entry.methods, *([] if entry.choose is None else [entry.choose])]
    tables = [entry.options, entry.settings, entry.swept]
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(table, dict) for table in entry.options.values())
    )


def _is_row(row: Any) -> bool:
    """Whether a line of a file has the fields that a summary reads, with their types."""
    try:
        particles = [values for values in (*row["judges"].values(), row["rewards"]) if values is not None]
        counts = {len(values) for values in particles}
        texts = [row["id"], row["choose"], *([] if row["category"] is None else [row["category"]])]
        numbers = [
            row["ancestors"],
            row["nfe"],
            row["reward_calls"],
            *row["judge"].values(),
            *(value for values in particles for value in values),
        ]
        optional = [row["reward"], row.get("spread"), *(row.get(name) for name in COST)]
        numbers += [value for value in optional if value is not None]
        places = [row["index"], row["replicate"], *row["chosen"]]
        return (
            all(isinstance(text, str) for text in texts)
            and row["judge"].keys() == row["judges"].keys()
            and (row["reward"] is None) == (row["rewards"] is None)
            and len(counts) == 1
            and bool(row["chosen"])
            and all(0 <= index < max(counts) for index in row["chosen"])
            and all(type(place) is int for place in places)
            and all(type(number) in (int, float) and abs(number) < 1e300 for number in numbers)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def slug(text: str) -> str:
    """Return a file name for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip("-.")[:60]
    return f"{readable}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
