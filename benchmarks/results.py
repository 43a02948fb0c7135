"""Re-make docs/results.md from scratch: every benchmark of the page, as many at a time as there are cores.

    python benchmarks/results.py [--out outputs/results] [--workers N] [--only NAME …]

Each benchmark runs on one thread and writes its own section. What is finished is skipped and what was broken off goes
on where it was; delete the output folder to start anew. What a benchmark printed is in ``logs/`` of the output folder,
how long it took in ``took.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import click
from measures import ROOT

from steer.storage import write_atomic

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Part:
    """A benchmark of the page.

    Attributes:
        name: of its script and of its folder.
        after: parts that it reads the folders of.
        threads: it has an option ``--threads`` (the others keep to one thread).
        reads: options that name other parts' folders.
    """

    name: str
    after: tuple[str, ...] = ()
    threads: bool = False
    reads: tuple[tuple[str, str], ...] = ()

    def command(self, out: Path) -> list[str]:
        """Return what runs it."""
        words = [sys.executable, str(HERE / f"{self.name}.py"), "--out", str(out / self.name)]
        words += ["--threads", "1"] if self.threads else []
        return words + [word for option, part in self.reads for word in (option, str(out / part))]


PARTS = (
    Part("compare"),
    Part("dmd2_ablations", threads=True),
    Part("fk", threads=True),
    Part("carinox", threads=True),
    Part("handover", threads=True),
    Part("students", ("dmd2_ablations", "handover"), threads=True,
         reads=(("--ablations", "dmd2_ablations"), ("--handover", "handover"))),
    Part("text"),
    Part("symmflow", threads=True),
)  # fmt: skip
"""The longest first: the end then waits for short ones."""


class PartError(Exception):
    """A part ended with an error."""


def run(part: Part, out: Path) -> float:
    """Run a part and return its seconds."""
    log = out / "logs" / f"{part.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as file:
        done = subprocess.run(part.command(out), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
    if done.returncode:
        raise PartError(f"{part.name} ended with code {done.returncode}; the end of {log} says why")
    return time.monotonic() - began


def run_all(
    parts: list[Part],
    took: dict[str, float],
    workers: int,
    start: Callable[[Part], float],
    say: Callable[[str], None],
    keep: Callable[[dict[str, float]], None],
) -> None:
    """Run parts, each after those that it reads, and note what each took in ``took``.

    A part that fails ends the work when what runs beside it has finished.
    """
    left = [part for part in parts if part.name not in took]
    names = {part.name for part in left}
    at_work: dict[Future[float], Part] = {}
    with ThreadPoolExecutor(workers) as pool:
        failure: PartError | None = None
        while left or at_work:
            ready = [part for part in left if failure is None and not names.intersection(part.after)]
            for part in ready[: workers - len(at_work)]:
                left.remove(part)
                say(f"{part.name} …")
                at_work[pool.submit(start, part)] = part
            if not at_work:
                break
            done, _ = wait(at_work, return_when=FIRST_COMPLETED)
            for future in done:
                part = at_work.pop(future)
                try:
                    took[part.name] = future.result()
                except PartError as error:
                    failure = failure or error
                    say(str(error))
                    continue
                names.discard(part.name)
                keep(took)
                say(f"{part.name}: {took[part.name] / 60:.1f} min")
        if failure is not None:
            raise failure


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "results", show_default=True)
@click.option(
    "--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="At a time; one a core by default."
)
@click.option("--only", multiple=True, type=click.Choice([part.name for part in PARTS]), help="These parts alone.")
def main(out: Path, workers: int, only: tuple[str, ...]) -> None:
    """Re-make every section of docs/results.md."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = out / "took.json"
    took: dict[str, float] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    before, began = sorted(took), time.monotonic()
    parts = [part for part in PARTS if not only or part.name in only]

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        click.echo(f"[{minutes // 60}:{minutes % 60:02}:{seconds:02}] {text}")

    if before:
        say(f"finished before: {', '.join(before)}")
    try:
        run_all(parts, took, workers, lambda part: run(part, out), say,
                lambda rows: write_atomic(record, json.dumps(rows, indent=1).encode()))  # fmt: skip
    except KeyboardInterrupt:
        sys.exit(130)  # a terminal's Ctrl-C reached the parts too
    except PartError:
        sys.exit(1)
    say(f"all of docs/results.md is made: {sum(took.values()) / 60:.0f} min of parts, {workers} at a time")


if __name__ == "__main__":
    main()
