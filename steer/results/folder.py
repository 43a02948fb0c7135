"""``OutputFolder``: writes samples with their recipes, traces, an overview and ``result.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from steer.models.media.image import image_bytes
from steer.results.claims import check_others, claimed
from steer.results.cost import Cost
from steer.results.names import CONTACT_SHEET, OVERVIEWS, PLAIN, RESULT, TRACES, file_stem, overview_name, sample_name
from steer.results.rows import item_row, metadata_rows
from steer.results.sheets import Cell, contact_sheet, score_text
from steer.results.storage import Storage, storage_at
from steer.settings.strict_json import json_text

if TYPE_CHECKING:
    from steer.results.items import Item

TRAIL = "tokens"
"""Kind of the events that record a text's tokens; charts are not drawn for them alone."""


class OutputFolder:
    """A folder that is filled item by item, so that finished items are never lost. Files are written whole.

    Attributes:
        storage: the folder's storage; ``storage.name`` is for messages.
    """

    def __init__(self, place: str | Path) -> None:
        """Check that the folder can be written to; it is made with the first file, so that an error leaves nothing.

        Args:
            place: a path or an fsspec URL.

        Raises:
            SteerError: if it cannot.
        """
        self.storage = storage_at(place)
        self.storage.check()
        self._rows: list[dict[str, Any]] = []
        self._cells: list[Cell] = []
        self._lines: dict[str, str] = {}
        self._stale: list[str] = []

    @contextmanager
    def claimed(self, ids: Collection[str], *, force: bool) -> Iterator[None]:
        """Lock the folder within the block, for a run of prompts with these ids. What it replaces is removed with the
        first file, so that a run that fails before leaves the earlier one.

        Raises:
            SteerError: if another process writes there, or results are there, unless ``force`` replaces a run like it.
        """
        check_others(self.storage, "generate")
        stems = {file_stem(identity) for identity in ids}
        with claimed(self.storage, lambda name: _of_a_run(name, stems), force=force):
            self._stale = [] if not force else _files_of_run(self.storage)
            yield

    def write(self, item: Item) -> list[str]:
        """Write one prompt's chosen samples, its trace and the trace's plot; return the samples' file names."""
        while self._stale:
            self.storage.remove(self._stale.pop())
        files = []
        for index in item.chosen:
            sample = item.samples[index]
            files.append(sample_name(item.prompt.id, sample.slot, item.medium))
            self.storage.write(files[-1], item.sample_bytes(index))
            picture = item.medium.picture(sample.value)
            if picture is not None:
                self._cells.append((picture, str(item.prompt), score_text(sample.reward)))
        trace = f"{TRACES}/{file_stem(item.prompt.id)}"
        self.write_json(f"{trace}.json", item.trace)
        if any(event["kind"] != TRAIL for event in item.trace["events"]):
            from steer.results.trace_plot import plot  # matplotlib loads slowly

            self.storage.write(f"{trace}.png", plot(item.trace))
        row = item_row(item, files)
        self._rows.append({**row, "recipe": item.recipe.as_dict()})
        if not item.medium.pictured:
            name = overview_name(item.medium)
            lines = (f"{json_text(line, readable=True)}\n" for line in metadata_rows(row))
            self._lines[name] = self._lines.get(name, "") + "".join(lines)
        return [self.storage.url(file) for file in files]

    def write_bytes(self, name: str, data: bytes) -> str:
        """Write a file that is not a sample, such as a comparison; return its place."""
        self.storage.write(name, data)
        return self.storage.url(name)

    def write_picture(self, name: str, picture: Image.Image) -> str:
        """Write a picture that is not a sample; return its place."""
        return self.write_bytes(name, image_bytes(picture))

    def write_json(self, name: str, data: Any) -> str:
        """Write plain data as JSON; return its place."""
        return self.write_bytes(name, f"{json_text(data, indent=1, readable=True)}\n".encode())

    def finish(self, cost: Cost, **more: Any) -> dict[str, Any]:
        """Write the overview of all items and ``result.json``; return the content of the latter."""
        data: dict[str, Any] = {"schema": 1, "items": self._rows, "cost": cost.as_dict(), **more}
        if self._cells:
            self.write_picture(CONTACT_SHEET, contact_sheet(self._cells))
        for name, lines in self._lines.items():
            self.write_bytes(name, lines.encode())
        self.write_json(RESULT, data)
        return data


def sample_of(name: str) -> str | None:
    """Return the stem of the prompt's id whose sample or trace a file is, by its name; ``None`` if it is neither."""
    found = re.fullmatch(rf"(?:{TRACES}/(.+)\.(?:json|png)|([^/]+)-\d{{3,}}\.\w+)", name)
    return None if found is None else found[1] or found[2]


def _of_a_run(name: str, stems: Collection[str]) -> bool:
    """Whether a run of prompts writes a file of this name, into its folder or the one of its baseline."""
    name = name.removeprefix(f"{PLAIN}/")
    return name in OVERVIEWS or sample_of(name) in stems


def _files_of_run(storage: Storage) -> list[str]:
    """Return the files of an earlier run, by its ``result.json``; other files are somebody's."""
    found = []
    for above in ("", f"{PLAIN}/"):
        try:
            items = json.loads(storage.read(above + RESULT) or b"{}")["items"]
            names = {str(file) for item in items for file in item["files"]}
            stems = {file_stem(item["id"]) for item in items}
        except (ValueError, KeyError, TypeError, AttributeError):  # damaged, or not there
            continue
        mine = (name.removeprefix(above) for name in storage.sizes() if name.startswith(above))
        found += [above + name for name in mine if name in names or name in OVERVIEWS or _trace_of(name) in stems]
    return found


def _trace_of(name: str) -> str | None:
    return sample_of(name) if name.startswith(f"{TRACES}/") else None
