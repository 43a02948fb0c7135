"""Damaged inputs, by a seed: each must be read, or refused by one line; none may hang or end in a traceback.

    python benchmarks/fuzz.py prompts [--inputs 10000] [--seed 0] [--keep FOLDER]

``prompts`` mutates prompt files of every format: bytes are replaced, removed, doubled and cut, and what breaks readers
is put in (quotes, byte order marks, NUL, huge numbers, NaN, deep brackets, other tools' marks). What is read must come
back the same from what a render keeps of it, as strict JSON. With ``--keep``, inputs that fail are written there.
"""

import faulthandler
import io
import json
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from steer import SteerError
from steer.prompts.files import collect, parse_prompts
from steer.prompts.rows import as_row

SECONDS = 10
"""An input that takes longer hangs."""

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

TOKENS = [
    b'"',
    b'""',
    b"'",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b"|",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x00",
    b"\xe9",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"156680208700286",
    b"-1",
    b"7.0",
    b"1_0",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[" * 2000,
    b'{"a":' * 300,
    b":",
    b"null",
    b"true",
    b'{"prompt": "a"}',
    b"sep=;\n",
    b"--prompt ",
    b"--seed -1 ",
    b"--sampler_name Heun ",
    b"--",
    b"---\n",
    b"positive: ",
    b"# ",
    b"prompt",
    b"prompts",
    b"seed",
    b"id",
    b" ",
    b"\xe2\x80\xa8",
    b"\\",
    b"=",
    b"__x__",
    b"{a|b}",
    b"\x1a",
    b"PAR1",
]
"""What breaks readers."""


@dataclass(frozen=True)
class Input:
    """A file to be read: its suffix, its bytes, and how it is asked for."""

    kind: str
    data: bytes
    column: str | None = None


def sources() -> list[Input]:
    """Return whole prompt files of every format."""
    columns = list(dict.fromkeys(key for row in ROWS for key in row))
    quoted = ['"' + str(row.get(key, "")).replace('"', '""') + '"' for row in ROWS for key in columns]
    lines = [columns, *(quoted[start : start + len(columns)] for start in range(0, len(quoted), len(columns)))]
    found = [Input("csv", "\n".join(",".join(line) for line in lines).encode())]
    found.append(Input("csv", "\r\n".join(";".join(line) for line in lines).encode("utf-16")))
    found.append(Input("tsv", "\n".join("\t".join(line) for line in lines).encode("utf-8-sig")))
    found.append(Input("jsonl", "\n".join(json.dumps(row) for row in ROWS).encode()))
    found.append(Input("jsonl", json.dumps({"words": "a", "prompt": "b"}).encode(), "words"))
    found.append(Input("json", json.dumps(ROWS, indent=1).encode()))
    found.append(Input("json", json.dumps({str(number): row for number, row in enumerate(ROWS)}).encode()))
    found.append(Input("json", json.dumps({"prompts": ["a", "b"], "seed": [1, 2]}).encode()))
    flags = '--prompt "a red circle" --seed 7 --cfg_scale 3.5 --option fk.lambda=4\n--prompt b --tiling true\n'
    found.append(Input("txt", f"a red circle\n{flags}a café in the snow\n".encode()))
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return found
    table = pyarrow.Table.from_pylist([{**row, "image": {"bytes": b"x", "path": "a"}} for row in ROWS[:2]])
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return [*found, Input("parquet", buffer.getvalue())]


def mutated(source: Input, rng: random.Random) -> Input:
    """Return a source with one to eight changes."""
    data = bytearray(source.data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 64))
        change = rng.randrange(6)
        if change == 0:
            data[place:place] = rng.choice(TOKENS)
        elif change == 1:
            data[place : place + length] = rng.choice(TOKENS)
        elif change == 2:
            data[place : place + length] = bytes(rng.randrange(256) for _ in range(length))
        elif change == 3:
            del data[place : place + length]
        elif change == 4:
            data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
        elif rng.random() < 0.2:
            del data[place:]
    return Input(source.kind, bytes(data), source.column)


def check_prompts(case: Input, rng: random.Random, folder: Path) -> str:
    """Read a prompt file; return how it ended.

    Raises:
        AssertionError: for an error of several lines, and for prompts that do not come back the same.
    """
    file = folder / f"case.{case.kind}"
    file.write_bytes(case.data)
    try:
        found = collect([file], skip_bad=rng.random() < 0.5, column=case.column, wrap_seeds=rng.random() < 0.5)
    except SteerError as error:
        check_line(error)
        return "refused"
    for error in found.bad:
        check_line(error)
    rows = [as_row(prompt) for prompt in found.prompts]
    kept = "".join(json.dumps(row, allow_nan=False, ensure_ascii=True) + "\n" for row in rows)
    for row in rows:
        json.dumps(row, ensure_ascii=False).encode()
    again = parse_prompts(kept.encode(), name="prompts.jsonl", kind="jsonl")
    assert [as_row(prompt) for prompt in again] == rows, "prompts do not come back the same"
    return "read in part" if found.bad else "read"


def check_line(error: SteerError) -> None:
    """Raise unless an error is one line that people can read."""
    assert "\n" not in str(error) and len(str(error)) < 1000, f"several lines, or too long: {str(error)[:200]!r}"


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """End a block by an error when it takes too long; C code that never returns ends the process, and says where."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(6 * seconds, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def run(check: Callable[[Input, random.Random, Path], str], inputs: int, seed: int, keep: Path | None) -> Counter[str]:
    """Check mutated inputs; return the number of inputs by outcome. Failures are reported on stderr."""
    rng, outcomes, whole = random.Random(seed), Counter[str](), sources()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        for number in range(inputs):
            case = mutated(rng.choice(whole), rng)
            try:
                with limited(SECONDS):
                    outcomes[check(case, rng, Path(folder))] += 1
            except Exception:  # any exception is a finding
                outcomes["failed"] += 1
                click.echo(f"input {number} (.{case.kind}):\n{traceback.format_exc(limit=-4)[:2000]}", err=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}.{case.kind}").write_bytes(case.data)
    return outcomes


CHECKS = {"prompts": check_prompts}


@click.command()
@click.argument("what", type=click.Choice(sorted(CHECKS)))
@click.option("--inputs", type=click.IntRange(1), default=10_000, show_default=True, help="Number of inputs.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the mutations.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder for inputs that fail.")
def main(what: str, inputs: int, seed: int, keep: Path | None) -> None:
    """Read damaged inputs of one kind."""
    begun = time.monotonic()
    outcomes = run(CHECKS[what], inputs, seed, keep)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    click.echo(f"{inputs} inputs, seed {seed}: {counts}; {time.monotonic() - begun:.0f} s")
    sys.exit(1 if outcomes["failed"] else 0)


if __name__ == "__main__":
    main()
