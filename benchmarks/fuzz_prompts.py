"""Damaged prompt files of every format, read as every command reads them."""

from __future__ import annotations

import io
import json
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from damage import damaged_bytes
from dry_commands import MESSAGE, timed

from steer import SteerError
from steer.prompts.files import collect, parse_prompts
from steer.prompts.rows import as_row

ROWS = [
    {"prompt": "a red circle", "id": "r1", "category": "color", "seed": 7, "steps": 5, "guidance": 3.5},
    {
        "prompt": 'a café, "blue"',
        "negative": "a square",
        "size": "32x16",
        "options": '{"fk": {"lambda": 4}}',
        "note": "kept",
    },
    {"prompt": "ein Hund\tim Schnee 🦊", "scheduler": "Euler a", "particles": 4, "width": 8.0, "x": [1, {"k": None}]},
]


@dataclass(frozen=True)
class PromptFile:
    """A prompt file: its suffix, its bytes, and how it is asked for.

    Attributes:
        folder: where it is put to be read.
    """

    kind: str
    data: bytes
    column: str | None = None
    skip_bad: bool = False
    wrap_seeds: bool = False
    folder: Path = Path()

    def check(self) -> str:
        """Read it; return how that ended.

        Raises:
            AssertionError: for an error of several lines, and for prompts that do not come back the same from what a
                render keeps of them.
        """
        file = self.folder / f"case.{self.kind}"
        file.write_bytes(self.data)
        try:
            with timed():
                found = collect([file], skip_bad=self.skip_bad, column=self.column, wrap_seeds=self.wrap_seeds)
        except SteerError as error:
            _check_line(error)
            return "refused"
        for error in found.bad:
            _check_line(error)
        rows = [as_row(prompt) for prompt in found.prompts]
        kept = "".join(json.dumps(row, allow_nan=False, ensure_ascii=True) + "\n" for row in rows)
        for row in rows:
            json.dumps(row, ensure_ascii=False).encode()
        again = parse_prompts(kept.encode(), name="prompts.jsonl", kind="jsonl")
        assert [as_row(prompt) for prompt in again] == rows, "prompts do not come back the same"
        return "accepted in part" if found.bad else "accepted"

    def keep(self, folder: Path) -> None:
        """Write it down."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"case.{self.kind}").write_bytes(self.data)


def _check_line(error: SteerError) -> None:
    text = str(error)
    assert "\n" not in text and len(text) < MESSAGE, f"several lines, or too long: {text[:200]!r}"


@contextmanager
def prompts() -> Iterator[Callable[[random.Random], PromptFile]]:
    """Give what makes damaged prompt files."""
    whole = _whole()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):

        def case(rng: random.Random) -> PromptFile:
            source = rng.choice(whole)
            data = damaged_bytes(source.data, rng)
            return PromptFile(source.kind, data, source.column, rng.random() < 0.5, rng.random() < 0.5, Path(folder))

        yield case


def _whole() -> list[PromptFile]:
    columns = list(dict.fromkeys(key for row in ROWS for key in row))
    quoted = ['"' + str(row.get(key, "")).replace('"', '""') + '"' for row in ROWS for key in columns]
    lines = [columns, *(quoted[start : start + len(columns)] for start in range(0, len(quoted), len(columns)))]
    found = [PromptFile("csv", "\n".join(",".join(line) for line in lines).encode())]
    found.append(PromptFile("csv", "\r\n".join(";".join(line) for line in lines).encode("utf-16")))
    found.append(PromptFile("tsv", "\n".join("\t".join(line) for line in lines).encode("utf-8-sig")))
    found.append(PromptFile("jsonl", "\n".join(json.dumps(row) for row in ROWS).encode()))
    found.append(PromptFile("jsonl", json.dumps({"words": "a", "prompt": "b"}).encode(), "words"))
    found.append(PromptFile("json", json.dumps(ROWS, indent=1).encode()))
    found.append(PromptFile("json", json.dumps({str(number): row for number, row in enumerate(ROWS)}).encode()))
    found.append(PromptFile("json", json.dumps({"prompts": ["a", "b"], "seed": [1, 2]}).encode()))
    flags = '--prompt "a red circle" --seed 7 --cfg_scale 3.5 --option fk.lambda=4\n--prompt b --tiling true\n'
    found.append(PromptFile("txt", f"a red circle\n{flags}a café in the snow\n".encode()))
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return found
    table = pyarrow.Table.from_pylist([{**row, "image": {"bytes": b"x", "path": "a"}} for row in ROWS[:2]])
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return [*found, PromptFile("parquet", buffer.getvalue())]
