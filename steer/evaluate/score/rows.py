"""Rows of scores, and the file from which scoring resumes."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from steer.errors import SteerError
from steer.evaluate.score.images import Picture
from steer.prompts.prompt import Prompt
from steer.settings.strict_json import json_text


@dataclass(frozen=True)
class Row:
    """An image's scores.

    Attributes:
        file: its path as found.
        prompt: its prompt; empty if the rewards read none.
        scores: by reward expression.
        digest: of the file's bytes, so that a replaced file is scored again.
        options: plugin options that the scores depend on.
        metadata: of the prompt: some rewards take their questions from it.
    """

    file: str
    prompt: str
    scores: dict[str, float]
    digest: str
    options: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def fits(self, picture: Picture, prompt: Prompt, rewards: Iterable[str], options: Mapping[str, Any]) -> bool:
        """Whether these are the requested scores."""
        asked = picture.digest, prompt, plain(options), plain(prompt.metadata)
        return (self.digest, self.prompt, self.options, self.metadata) == asked and set(rewards) <= set(self.scores)


def read_rows(path: Path) -> dict[str, Row]:
    """Read the rows of an earlier run by file; a last line without an end, which may be cut off, is left out.

    Raises:
        SteerError: if the file holds something else, so that it is not overwritten.
    """
    if not path.exists():
        return {}
    rows: dict[str, Row] = {}
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SteerError(f"--out {path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            row = Row(**json.loads(line))
            if not all(math.isfinite(score) for score in row.scores.values()):
                raise ValueError
            rows[row.file] = row
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            raise SteerError(
                f"--out {path}, line {number}: not a line of scores; expected a file that steer score wrote, choose "
                "another --out"
            ) from None
    return rows


def open_rows(path: Path) -> TextIO:
    """Open a file of rows to append to, after dropping a last line without an end.

    Raises:
        SteerError: if it cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                with path.open("r+b") as file:
                    file.truncate(data.rfind(b"\n") + 1)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise SteerError(f"--out {path} cannot be written to ({error.strerror}); choose another") from None


def write_row(file: TextIO, row: Row) -> None:
    """Append a row and hand it to the system at once, so that it survives a kill."""
    file.write(f"{json_text(asdict(row))}\n")
    file.flush()


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in the form in which a file gives them back, for comparison."""
    found: dict[str, Any] = json.loads(json_text(values, sort_keys=True))
    return found
