"""Tables of category weights: the published one, files from ``steer calibrate``, and lists on the command line."""

import math
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer import SteerError
from steer.plugin import json_text, read_text
from steer_carinox.calibration.categories import CATEGORIES, canonical
from steer_carinox.terms import Term

_COLUMNS = ("hps", "imagereward", "da", "vqa")
_PUBLISHED = {
    "color": (0.40, 1.06, 1.41, 1.14),
    "shape": (0.95, 1.12, 1.00, 0.92),
    "texture": (0.90, 1.10, 1.07, 0.93),
    "2d_spatial": (1.06, 1.02, 0.82, 1.10),
    "3d_spatial": (0.96, 0.92, 0.68, 1.43),
    "non_spatial": (1.01, 0.96, 0.85, 1.17),
    "numeracy": (1.02, 1.05, 1.00, 0.93),
    "complex": (0.67, 1.05, 1.21, 1.06),
    "overall": (0.59, 0.94, 1.12, 1.34),
    "none": (1.0, 1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class Table:
    """Multipliers of the base weights, by category.

    Attributes:
        source: the table's origin, for messages.
        rows: category to reward to multiplier; a reward is listed by its label (``clip:shapes``) or its name.
        every: multipliers for all categories, instead of rows.
    """

    source: str
    rows: Mapping[str, Mapping[str, float]]
    every: Mapping[str, float] | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that a prompt may have."""
        return tuple(dict.fromkeys([*CATEGORIES, *self.rows]))

    def multipliers(self, category: str, terms: Sequence[Term]) -> list[float]:
        """Return each reward's multiplier in a category; 1 for a reward that the row lacks, with a warning if the user
        chose the table."""
        if category == "none" and self.every is None:
            return [1.0] * len(terms)
        row = self.every if self.every is not None else self.rows.get(category, self.rows.get("overall", {}))
        found = [row.get(term.label, row.get(term.name)) for term in terms]
        missing = [term.label for term, weight in zip(terms, found, strict=True) if weight is None]
        if missing and self.source not in ("published", "uniform"):
            warnings.warn(
                f"{self.source} has no weight of {', '.join(missing)} in the category {category}; using 1", stacklevel=2
            )
        weights = [1.0 if weight is None else weight for weight in found]
        if not any(weights):
            raise SteerError(
                f"{self.source}: all weights of {', '.join(term.label for term in terms)} are 0 in the category "
                f"{category}; nothing would steer"
            )
        return weights


PUBLISHED = Table("published", {name: dict(zip(_COLUMNS, row, strict=True)) for name, row in _PUBLISHED.items()})
"""The table of the paper, from each reward's correlation with human judgment in the category."""

UNIFORM = Table("uniform", {})


def find_table(text: str) -> Table:
    """Return a table: ``published``, ``uniform``, ``NAME=WEIGHT,NAME=WEIGHT``, or a file from ``steer calibrate``.

    Raises:
        SteerError: if it cannot be read or holds something else.
    """
    if text in ("published", "uniform"):
        return PUBLISHED if text == "published" else UNIFORM
    if "=" in text and not text.endswith(".toml"):
        return Table(text, {}, every=dict(_assignment(piece, text) for piece in split_commas(text)))
    return read_table(Path(text))


def read_table(path: Path) -> Table:
    """Read the ``[weights.CATEGORY]`` tables of a TOML file."""
    if not path.exists():
        raise SteerError(
            f"weights file {path} does not exist; expected published, uniform, NAME=WEIGHT,… or a file written by "
            "steer calibrate"
        )
    try:
        data = tomllib.loads(read_text(path, "weights file"))
    except (ValueError, RecursionError) as error:
        raise SteerError(f"weights file {path} cannot be read as TOML: {error}") from None
    rows = data.get("weights")
    if not isinstance(rows, dict) or not rows:
        raise SteerError(f"weights file {path} has no table [weights.CATEGORY]; steer calibrate writes one")
    return Table(str(path), {canonical(name): _row(row, f"{path}, weights.{name}") for name, row in rows.items()})


def toml_text(rows: Mapping[str, Mapping[str, float]], comments: Sequence[str] = ()) -> str:
    """Return a table as the text of a TOML file."""
    lines = [f"# {comment}" for comment in comments]
    for category, row in rows.items():
        lines += ["", f"[weights.{json_text(category)}]"]
        lines += [f"{json_text(name, readable=True)} = {weight:.4f}" for name, weight in row.items()]
    return "\n".join(lines).lstrip() + "\n"


def inline(terms: Sequence[Term], multipliers: Sequence[float]) -> str:
    """Return multipliers as text that :func:`find_table` reads back exactly."""
    return ",".join(f"{term.label}={weight!r}" for term, weight in zip(terms, multipliers, strict=True))


def _row(row: Any, where: str) -> dict[str, float]:
    if not isinstance(row, dict):
        raise SteerError(f"{where}: got {type(row).__name__}, expected a table of rewards and their weights")
    return {name: _weight(value, f"{where}.{name}") for name, value in row.items()}


def _weight(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise SteerError(f"{where}: got {value!r}, expected a weight, 0 or more")
    return float(value)


def split_commas(text: str) -> list[str]:
    """Split at commas outside parentheses, because a reward may be ``min(a,b)``."""
    pieces, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            pieces.append(text[start:index])
            start = index + 1
    return [*pieces, text[start:]]


def _assignment(piece: str, text: str) -> tuple[str, float]:
    name, _, value = piece.rpartition("=")
    try:
        return name.strip(), _weight(float(value), f"carinox.weights, {name.strip()}")
    except ValueError:
        raise SteerError(f"carinox.weights={text}: cannot read {piece!r}; expected NAME=WEIGHT") from None
