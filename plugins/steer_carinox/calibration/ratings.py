"""Files of ratings: their lines, and the rewards' scores of each image."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from steer import Prompt, SteerError
from steer.plugin import Reading, RewardFunction, checked, read_image, read_text
from steer_carinox.calibration.categories import Category, category_of

IMAGE_KEYS = ("image", "file_name", "file")


@dataclass(frozen=True)
class Rated:
    """A rated image."""

    prompt: Prompt
    category: Category
    rating: float
    image: Path | None
    scores: Mapping[str, float] = field(default_factory=dict)


def read_ratings(path: Path, column: str, rewards: Sequence[str]) -> list[Rated]:
    """Read JSON lines with the prompt, the rating, and an image or the rewards' scores; ``category`` is optional.

    Files from ``steer score --out`` have this format; ``column`` then names the reward whose score is the rating.

    Raises:
        SteerError: naming the bad line, or the columns that no line has.
    """
    lines = read_text(path, "ratings file").split("\n")
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise SteerError(f"{path}, line {number}: expected a JSON object with prompt, {column} and image")
            rows.append((number, row))
    if not rows:
        raise SteerError(f"ratings file {path} holds no rating")
    _check_columns(path, [row for _, row in rows], column, rewards)
    return [_rated(row, column, rewards, f"{path}, line {number}", path.parent) for number, row in rows]


def score_all(rated: Sequence[Rated], name: str, make: Callable[[], RewardFunction], device: Any) -> list[float]:
    """Return a reward's score of each image: from the file, else from the reward, which is loaded only if needed."""
    scores = [row.scores.get(name) for row in rated]
    missing = [index for index, score in enumerate(scores) if score is None]
    reward = make() if missing else None
    batch: list[int] = []

    def flush() -> None:
        assert reward is not None
        pixels = torch.stack([images.pop(index) for index in batch]).to(device)
        with torch.no_grad():
            values = checked(name, reward, pixels, [rated[index].prompt for index in batch]).tolist()
        for index, value in zip(batch, values, strict=True):
            scores[index] = value
        batch.clear()

    images: dict[int, torch.Tensor] = {}
    for index in missing:
        image = rated[index].image
        assert image is not None
        pixels = read_image(image).pixels
        if batch and (len(batch) == 16 or images[batch[0]].shape != pixels.shape):
            flush()
        images[index] = pixels
        batch.append(index)
    if batch:
        flush()
    return [float(score) for score in scores if score is not None]


def _check_columns(path: Path, rows: Sequence[Mapping[str, Any]], column: str, rewards: Sequence[str]) -> None:
    """Raise if columns are missing in every line; the message names all of them."""
    missing = []
    if not any(map(Reading().text_keys, rows)):
        missing.append("prompt")
    if not any(column in row or column in _table(row) for row in rows):
        missing.append(column)
    unscored = any(name not in _table(row) for row in rows for name in rewards)
    if unscored and not any(key in row for row in rows for key in IMAGE_KEYS):
        missing.append("image")
    if missing:
        have = ", ".join(sorted({key for row in rows for key in row})) or "none"
        known = sorted({name for row in rows for name in _table(row)})
        hint = f"; --rating {known[0]} takes a score as the rating" if column in missing and known else ""
        raise SteerError(f"ratings file {path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
                         f"(it has {have}){hint}")  # fmt: skip


def _rated(row: Mapping[str, Any], column: str, rewards: Sequence[str], where: str, folder: Path) -> Rated:
    keys = Reading().text_keys(row)
    text = next((row[key] for key in keys if isinstance(row[key], str) and row[key].strip()), None)
    if text is None:
        raise SteerError(f"{where}: no text under prompt")
    scores = {name: _number(value, f"{where}: scores.{name}") for name, value in _table(row).items()}
    if column not in row and column not in scores:
        raise SteerError(f"{where}: no {column}; expected a number")
    rating = _number(row[column], f"{where}: {column}") if column in row else scores[column]
    image = next((row[key] for key in IMAGE_KEYS if isinstance(row.get(key), str)), None)
    if image is None and any(name not in scores for name in rewards):
        raise SteerError(f"{where}: neither an image nor scores of all rewards")
    category = row.get("category")
    metadata = {k: v for k, v in row.items() if k not in (*keys, "category", "scores")}
    prompt = Prompt(text.strip(), category=None if category is None else str(category), metadata=metadata)
    return Rated(prompt, category_of(prompt), rating, None if image is None else _find(image, folder), scores)


def _find(name: str, folder: Path) -> Path:
    """Return an image's path: beside the ratings, else relative to the working directory."""
    beside = folder / name
    return beside if beside.exists() else Path(name)


def _table(row: Mapping[str, Any]) -> Mapping[str, Any]:
    scores = row.get("scores")
    return scores if isinstance(scores, dict) else {}


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SteerError(f"{where} is {value!r}, expected a finite number")
    return float(value)
