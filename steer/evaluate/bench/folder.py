"""A benchmark's folder: a subfolder per column, or per column and shard, with images, journal and scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steer.errors import SteerError
from steer.evaluate.bench.benchmark import Details, Measure
from steer.evaluate.compare.folder import slug
from steer.evaluate.score.rows import Row, read_rows
from steer.prompts.prompt import Prompt
from steer.render.journal import Journal
from steer.results.storage import storage_at

PLAIN = "plain"
"""The column of the model without methods."""
SCORES = "scores"


@dataclass(frozen=True)
class ScoredImage:
    """An image's file, its score, and what the score comes from."""

    file: Path
    score: float
    details: Details


def slug_of(column: str) -> str:
    """Return the folder of a column.

    Raises:
        SteerError: for a name that is no plain word.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+=,-]{0,79}", column):
        raise SteerError(f"name {column[:60]!r}: expected letters, digits, and + - _ = , between them; give --name")
    return column


def images_of(folder: Path, prompts: Sequence[Prompt]) -> list[tuple[Prompt, list[Path]]]:
    """Return the rendered images of prompts; prompts without one are left out."""
    found: dict[str, list[tuple[int, Path]]] = {}
    if (folder / "run.toml").is_file():
        for row in Journal(storage_at(folder)).rows():
            number = int(row.get("replicate", 0))
            if row["status"] == "done":
                name = row["id"].removesuffix(f".r{number + 1}") if number else row["id"]
                found.setdefault(name, []).extend((number, folder / file) for file in row["files"])
    return [
        (prompt, [file for _, file in sorted(found[prompt.id], key=lambda pair: pair[0])])
        for prompt in prompts
        if prompt.id in found
    ]


def score_file(folder: Path, expression: str) -> Path:
    """Return the file with a judge's scores of a column."""
    return folder / SCORES / f"{slug(expression)}.jsonl"


def columns_in(out: Path) -> dict[str, list[Path]]:
    """Return the folders of each column in a benchmark's folder: one, or one per shard."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(path.parent for path in out.glob("*/run.toml")):
        name = re.sub(r"\.\d+-of-\d+$", "", folder.name)
        found.setdefault(name, []).append(folder)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != PLAIN, pair[0])))


def scores_in(folders: Sequence[Path], measure: Measure, prompts: Sequence[Prompt]) -> dict[str, list[ScoredImage]]:
    """Return a column's scored images by prompt's id; images without a score are left out."""
    found: dict[str, list[ScoredImage]] = {}
    for folder in folders:
        rows = {expression: of_file(read_rows(score_file(folder, expression))) for expression in measure.judges}
        for prompt, files in images_of(folder, prompts):
            expression = measure.judge_of(prompt)
            for file in files:
                if (row := rows[expression].get(file.name)) is not None:
                    image = ScoredImage(file, row.scores[expression], row.details.get(expression, {}))
                    found.setdefault(prompt.id, []).append(image)
    return found


def of_file(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return a column's rows by file name: the folder may have been moved."""
    return {Path(file).name: row for file, row in rows.items()}
