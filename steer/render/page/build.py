"""Building the page: ``index.html``, and the data in scripts beside it.

A page opened from a disk may load scripts and pictures, but not fetch files. So the data are scripts, cut into pieces
that are loaded when they come into view.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from steer.errors import SteerError
from steer.render.journal import place_of
from steer.render.page.collect import REPORT, Run, find_reports, find_runs
from steer.render.page.command import generate_command, replay_command
from steer.results.names import PLAIN
from steer.results.rows import chosen_particles, seed_of
from steer.results.storage import Storage
from steer.settings.strict_json import json_text

INDEX, FOLDER = "index.html", "page"
MARK = b'<meta name="generator" content="steer">'
SCRIPTS = (
    "elements.js",
    "data.js",
    "charts.js",
    "picks.js",
    "grid.js",
    "compare.js",
    "tokens.js",
    "detail.js",
    "app.js",
)
ROWS_A_FILE = 2_500
TEXT_SHOWN = 4_000
"""Characters of a text that the page shows; its file has all."""
DETAILS_A_FILE, THUMBNAILS_A_FILE = 50, 100
FILE_BYTES = 1_500_000
"""Largest piece in bytes: a whole piece is loaded to show one image."""
_OURS = re.compile(rf"{FOLDER}/(rows|head|details|thumbs)-\d+\.js")
"""Names of files that an earlier build wrote; other files in that folder are the user's."""


@dataclass(frozen=True)
class Page:
    """A built page: its place, and how many samples (``images``), failed prompts and runs it shows."""

    place: str
    images: int
    failed: int
    runs: int


@dataclass
class _Table:
    """Values that many entries share, by number."""

    values: dict[Any, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        return self.values.setdefault(value, len(self.values))


def build_page(storage: Storage) -> Page | None:
    """Build the page of all runs in a folder and below it; return ``None`` if there is none.

    Raises:
        SteerError: if it would overwrite an ``index.html`` that steer did not write.
    """
    runs = find_runs(storage)
    if not runs:
        return None
    check_page(storage)
    for run in runs:  # before anything of an earlier page is written over
        run.check()
    return _Builder(storage, runs).build()


def check_page(storage: Storage) -> None:
    """Raise if a folder holds an ``index.html`` that steer did not write."""
    page = storage.read(INDEX)
    if page is not None and MARK not in page:
        raise SteerError(f"{storage.url(INDEX)} is not a page of steer's; choose another folder, or move it away")


class _Builder:
    def __init__(self, storage: Storage, runs: list[Run]) -> None:
        self._storage, self._runs = storage, runs
        self._prompts, self._categories, self._judges = _Table(), _Table(), _Table()
        self._written: set[str] = set()
        self._hash = hashlib.blake2b(digest_size=6)
        self._count = 0

    def build(self) -> Page:
        rows: list[list[Any]] = []
        failed: list[dict[str, Any]] = []
        runs: list[dict[str, Any]] = []
        for number, run in enumerate(self._runs):
            found = list(run.rows())
            done = sorted((row for row in found if row["status"] == "done"), key=place_of)
            failed += [
                {"run": number, "id": row["id"], "prompt": row["prompt"], "reason": row["reason"]}
                for row in found
                if row["status"] != "done"
            ]
            pieces, thumbnails, recipe = self._details(run, {row["id"]: row["files"] for row in done})
            runs.append({"folder": run.folder, "place": run.storage.name, **_facts(recipe)})
            for row in done:
                rows += self._entries(number, row, pieces.get(row["id"], -1), thumbnails.get(row["id"], []))
        names = [self._write("rows", part) for part in _parts(rows, ROWS_A_FILE)]
        head = {
            "title": self._title(),
            "runs": runs,
            "prompts": list(self._prompts.values),
            "categories": list(self._categories.values),
            "judges": list(self._judges.values),
            "failed": failed,
            "paired": self._has_baseline(),
            "reports": [
                [name, name.removesuffix(REPORT).rstrip("/") or "report"] for name in find_reports(self._storage)
            ],
        }
        first = self._write("head", head)
        page = _html([first, *names], self._hash.hexdigest())
        self._storage.write(INDEX, page.encode())
        for name in self._storage.sizes(FOLDER):
            if name not in self._written and _OURS.fullmatch(name):
                self._storage.remove(name)
        return Page(self._storage.url(INDEX), len(rows), len(failed), len(runs))

    def _has_baseline(self) -> bool:
        """Whether a run is the baseline of another."""
        folders = {run.folder for run in self._runs}
        return any(f"{folder}/{PLAIN}".lstrip("/") in folders for folder in folders)

    def _title(self) -> str:
        return self._storage.name.rstrip("/").rpartition("/")[2] or self._storage.name

    def _entries(
        self, run: int, row: Mapping[str, Any], piece: int, thumbnails: Sequence[tuple[int, int]]
    ) -> Iterator[list[Any]]:
        """Yield one entry per image; ``data.js`` has the columns' names."""
        width, height = row.get("size") or [0, 0]
        category = row.get("category")
        category_number = -1 if category is None else self._categories.number(category)
        for number, (file, particle) in enumerate(zip(row["files"], chosen_particles(row), strict=True)):
            judged = [None] * len(self._judges.values)
            for name, score in particle["judge"].items():
                place = self._judges.number(name)
                judged += [None] * (place + 1 - len(judged))
                judged[place] = score
            thumbnail = thumbnails[number] if number < len(thumbnails) else (-1, 0)
            made_of = (run, self._prompts.number(row["prompt"]), category_number, row["id"], file)
            scored = (seed_of(row, particle), particle["slot"], particle["reward"], judged)
            yield [*made_of, *scored, width, height, piece, number, *thumbnail, _shown(particle.get("text"))]

    def _details(
        self, run: Run, wanted: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, int], dict[str, list[tuple[int, int]]], Mapping[str, Any] | None]:
        """Write a run's details and thumbnails in pieces.

        Args:
            run: the run.
            wanted: ids of the prompts to show, with their images' files.

        Returns:
            Each prompt's piece of details, its images' thumbnails as (piece, place), and one recipe of the run.
        """
        last = {detail["id"]: number for number, detail in enumerate(run.details()) if detail["id"] in wanted}
        keep = set(last.values())
        recipe: Mapping[str, Any] | None = None
        details = _Pieces(self, "details", DETAILS_A_FILE)
        thumbnails = _Pieces(self, "thumbs", THUMBNAILS_A_FILE)
        places: dict[str, list[tuple[int, int]]] = {}
        for number, detail in enumerate(run.details()):
            if number not in keep:
                continue
            recipe = recipe or detail.get("recipe")
            places[detail["id"]] = [thumbnails.add(picture) for picture in detail.pop("thumbnails", None) or ()]
            replay = [replay_command(run.storage.url(file)) for file in wanted[detail["id"]]]
            details.add({**detail, "replay": replay, **_commands(detail)})
        pieces = {identity: piece for identity, (piece, _) in details.finish().items()}
        thumbnails.finish()
        return pieces, places, recipe

    def _write(self, kind: str, data: Any) -> str:
        name = f"{FOLDER}/{kind}-{self._count:05d}.js"
        self._count += 1
        self.write_as(name, kind, self._count - 1, _json(data))
        return name

    def next_number(self) -> int:
        """Return the number of the next file."""
        self._count += 1
        return self._count - 1

    def write_as(self, name: str, kind: str, number: int, text: str) -> None:
        """Write data, as JSON, in a script that hands them to the page."""
        script = f"steer.take({json_text(kind)},{number},{text});\n".encode()
        self._hash.update(script)
        self._storage.write(name, script)
        self._written.add(name)


class _Pieces:
    """Collects data of one kind into files of a bounded size."""

    def __init__(self, builder: _Builder, kind: str, most: int) -> None:
        self._builder, self._kind, self._most = builder, kind, most
        self._part: list[str] = []
        self._bytes = 0
        self._number = builder.next_number()
        self._where: dict[str, tuple[int, int]] = {}

    def add(self, data: Any) -> tuple[int, int]:
        """Add one entry; return its file's number and its place in it."""
        text = _json(data)
        if self._part and (len(self._part) >= self._most or self._bytes + len(text) > FILE_BYTES):
            self._flush()
        self._part.append(text)
        self._bytes += len(text)
        at = (self._number, len(self._part) - 1)
        if isinstance(data, dict):
            self._where[data["id"]] = at
        return at

    def finish(self) -> dict[str, tuple[int, int]]:
        """Write the last piece; return the places of entries with an id."""
        if self._part:
            self._flush()
        return self._where

    def _flush(self) -> None:
        name, text = f"{FOLDER}/{self._kind}-{self._number:05d}.js", f"[{','.join(self._part)}]"
        self._builder.write_as(name, self._kind, self._number, text)
        self._part, self._bytes = [], 0
        self._number = self._builder.next_number()


def _shown(text: Any) -> str | None:
    """Return the part of a text sample that the page shows."""
    return text[:TEXT_SHOWN] if isinstance(text, str) else None


def _json(data: Any) -> str:
    return json_text(data, compact=True)


def _commands(detail: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {"command": generate_command(detail["recipe"])}
    except (KeyError, TypeError, AttributeError):  # a damaged recipe has none
        return {}


def _facts(recipe: Any) -> dict[str, Any]:
    """Return the facts that distinguish a run from another."""
    if not isinstance(recipe, dict):
        return {"methods": [], "reward": [], "model": ""}
    return {key: recipe.get(key) for key in ("methods", "reward", "model")}


def _parts(rows: list[Any], size: int) -> Iterable[list[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def page_file(name: str) -> str:
    """Return a style or a script of the page, such as ``"charts.js"``; other pages share some."""
    return (resources.files("steer.render.page") / "static" / name).read_text(encoding="utf-8")


def _html(scripts: Iterable[str], version: str) -> str:
    """Return the page with its style and scripts inside; a browser may run only scripts of their hash."""
    style, code = page_file("page.css"), "\n".join(map(page_file, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    tags = "\n".join(f'<script src="{name}?{version}" defer></script>' for name in scripts)
    page = page_file("page.html")
    for mark, text in (("@digest@", digest), ("@style@", style), ("@code@", code), ("@data@", tags)):
        page = page.replace(mark, text)
    return page
