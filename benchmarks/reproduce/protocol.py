"""What the reproductions share: commands that resume, figures beside the paper's, and what was not checked."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from steer.evaluate.statistics import MIN_PROMPTS, bootstrap_mean
from steer.results.storage import write_atomic

SMOKE = "tiny models and few prompts: the commands run, the figures mean nothing"


@dataclass(frozen=True)
class Figure:
    """A figure of ours, with its 95% interval if there is one, and the paper's; empty if it has none."""

    what: str
    ours: float
    limits: tuple[float, float] | None
    count: int
    paper: str


class Protocol:
    """One published protocol, run into a folder."""

    def __init__(self, title: str, paper: str, out: Path, *, smoke: bool) -> None:
        """Args: title: what is reproduced; paper: where it stands; out: the folder; smoke: whether on tiny models."""
        self.title, self.paper, self.out, self.smoke = title, paper, out, smoke
        self.figures: list[Figure] = []
        self.unchecked: list[str] = [SMOKE] if smoke else []
        out.mkdir(parents=True, exist_ok=True)

    def steer(self, *words: object) -> str:
        """Run a command of steer; run again, it resumes. Return what it printed on stdout.

        Raises:
            SystemExit: with its code, if it fails.
        """
        command = [str(word) for word in words]
        click.echo(f"$ steer {shlex.join(command)}", err=True)
        done = subprocess.run([sys.executable, "-m", "steer", *command], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        return done.stdout

    def data(self, *words: object) -> Any:
        """Run a command with ``--json``; return what it said."""
        return json.loads(self.steer(*words, "--json"))

    def add(self, what: str, values: Iterable[float], paper: str = "") -> None:
        """Add the mean of values that are independent, such as one per prompt."""
        found, paper = [float(value) for value in values], "" if self.smoke else paper
        if len(found) < MIN_PROMPTS:
            self.figures.append(Figure(what, float(np.mean(found)), None, len(found), paper))
            return
        interval = bootstrap_mean(found)
        self.figures.append(Figure(what, interval.estimate, (interval.low, interval.high), len(found), paper))

    def measured(self, what: str, row: Mapping[str, Any], paper: str = "") -> None:
        """Add what ``steer measure`` said."""
        limits = (row["low"], row["high"]) if "low" in row else None
        count = row.get("images") or row.get("prompts") or 0
        self.figures.append(Figure(what, row["value"], limits, count, "" if self.smoke else paper))

    def report(self) -> None:
        """Write ``report.md`` into the folder, and print it."""
        lines = [f"# {self.title}", "", self.paper, "", "| | ours | n | paper |", "|---|---|---|---|"]
        for one in self.figures:
            limits = "" if one.limits is None else f" [{one.limits[0]:.3f}, {one.limits[1]:.3f}]"
            lines.append(f"| {one.what} | {one.ours:.3f}{limits} | {one.count} | {one.paper or '–'} |")
        lines += ["", "Not checked:", "", *(f"- {text}" for text in self.unchecked), ""]
        text = "\n".join(lines)
        write_atomic(self.out / "report.md", text.encode())
        click.echo(text)


def samples_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a render's samples by prompt; ``judge`` is a table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["judge"] = json.loads(row["judge"] or "{}")
        found.setdefault(row["prompt"], []).append(row)
    return found


def over(rows: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], float]) -> tuple[float, float]:
    """Return the mean and the maximum over a prompt's samples."""
    values = [key(row) for row in rows]
    return float(np.mean(values)), max(values)


def figure_of(line: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return a group's figure in a line of ``steer bench``, as ``steer measure`` says its own."""
    found = line["figures"][group]
    limits = {} if found["low"] is None else {"low": found["low"], "high": found["high"]}
    return {"value": found["estimate"], **limits, "prompts": found["prompts"]}


def options(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Decorate a protocol's function: the folder, and whether on tiny models."""

    def decorate(function: Callable[..., None]) -> click.Command:
        function = click.option("--smoke", is_flag=True, help="Tiny models and few prompts: do the commands run?")(
            click.option("--out", type=click.Path(path_type=Path), default=Path("outputs/reproduce") / name)(function)
        )
        return click.command()(function)

    return decorate
