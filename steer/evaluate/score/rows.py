"""Rows of scores, and the file from which scoring resumes."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.evaluate.score.files import Clip
from steer.evaluate.score.images import Picture
from steer.prompts.prompt import Prompt
from steer.results.storage import LocalStorage
from steer.settings.strict_json import json_text


@dataclass(frozen=True)
class Row:
    """A file's scores.

    Attributes:
        file: its path as found.
        prompt: its prompt; empty if the rewards read none.
        scores: by reward expression.
        digest: of the file's bytes, so that a replaced file is scored again.
        options: plugin options that the scores depend on.
        metadata: of the prompt: some rewards take their questions from it.
        details: what scores come from, by reward expression, where there is more to say.
    """

    file: str
    prompt: str
    scores: dict[str, float]
    digest: str
    options: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fits(self, found: Picture | Clip, prompt: Prompt, rewards: Iterable[str], options: Mapping[str, Any]) -> bool:
        """Whether these are the requested scores."""
        asked = found.digest, prompt, plain(options), plain(prompt.metadata)
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


class ScoreFile:
    """A file of rows that grows by whole batches, so that what is scored survives a kill.

    Attributes:
        done: the rows that it had, by file.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there; nothing is written yet.

        Raises:
            SteerError: if the file holds something else, so that it is not overwritten.
        """
        if path.suffix.lower() in (".csv", ".tsv"):
            raise SteerError(f"--out {path}: scores are kept as JSON lines; name it .jsonl, or use --csv > {path}")
        self._path = Path(os.path.realpath(path))  # a link may lead to the file, or in a circle
        self._storage = LocalStorage(self._path.parent)
        self.done = read_rows(path)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep others from appending for the length of a block.

        Raises:
            SteerError: if somebody else does.
        """
        with self._storage.lock(self._path.name):
            self.done = read_rows(self._path)
            try:
                yield
            finally:
                self._storage.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        self._storage.append(self._path.name, "".join(f"{json_text(asdict(row))}\n" for row in rows).encode())


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in the form in which a file gives them back, for comparison."""
    found: dict[str, Any] = json.loads(json_text(values, sort_keys=True))
    return found
