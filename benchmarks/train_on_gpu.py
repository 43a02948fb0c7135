"""Train the embedded models afresh on a GPU, far beyond the recipes of a CPU, in pieces that resume.

    python benchmarks/train_on_gpu.py [--out outputs/training] [--minutes 9] [--only NAME …] [--device cuda] [--smoke]

One command after another, each a ``steer train``. The script ends before ``--minutes`` are over, with a checkpoint of
what is under way; run it again to go on, until it says that all is done. It is meant for half an hour of a large GPU.
What a training is worth is measured elsewhere: ``benchmarks/students.py``, ``symmflow.py`` and ``text.py``.
``--smoke`` takes a few steps of everything, on the CPU, to try the script.

one-step   DMD2's one-step student: 20,000 pairs, a long regression, then matching with five critic updates each
four-step  the four-step student: 4,000 pairs, a short regression, matching
classes    the flow of classes, from the shipped flow of masks
masks      the flow of masks, from the shipped one
text       the sentences, wider and deeper
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
SPARE = 25.0
"""Seconds before the end at which a training is told to stop: it ends after its step and writes a checkpoint."""
STUDENT = (
    "dmd2 --teacher shapes --data shapes --scenes 65536 --guidance 2.5 --ratio 5 --snr-clip 5 --ema 0.999 --gan 0.05 "
    "--gan-critic 0.03 --critic-warmup 200 --pixel-gan 2 --pixel-gan-trunk shapes-detector --pair-steps 20 "
    "--validate prompts/shapes-tune.jsonl --reward shapes"
)


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        name: of its folder.
        command: words after ``steer train``.
        smoke: options that make it small; they replace those of the command.
    """

    name: str
    command: str
    smoke: str

    def words(self, out: Path, device: str, smoke: bool) -> list[str]:
        """Return the command line."""
        words = self.command.split()
        if smoke:
            words = _replaced(words, self.smoke.split())
        return [*words, "--out", str(out / self.name), "--device", device]


SMALL = "--batch 2 --steps 2 --save-every 1 --sheet-every 100"
SMALL_STUDENT = f"{SMALL} --scenes 16 --pairs 4 --pair-steps 2 --warmup 2 --critic-warmup 1 --ratio 1 --precision no"
JOBS = (
    Job(
        "one-step",
        f"{STUDENT} --student-steps 1 --timesteps 799 --pairs 20000 --warmup 30000 --warmup-rate 2e-4 "
        "--steps 12000 --rate 5e-5 --critic-rate 1e-4 --batch 64 --precision bf16 --save-every 1000 --sheet-every 2000",
        SMALL_STUDENT,
    ),
    Job(
        "four-step",
        f"{STUDENT} --student-steps 4 --timesteps 799,599,399,199 --pairs 4000 --warmup 2000 --steps 8000 "
        "--rate 1e-4 --critic-rate 2e-4 --batch 64 --precision bf16 --save-every 1000 --sheet-every 2000",
        SMALL_STUDENT,
    ),
    Job(
        "classes",
        "symmflow --data shapes-classes --init symmflow:masks --batch 64 --steps 20000 --rate 8e-4 --late 0.25 "
        "--image-weight 0.7 --beta 4 --ema 0.9995 --save-every 1000 --sheet-every 4000",
        SMALL,
    ),
    Job(
        "masks",
        "symmflow --data shapes-masks --init symmflow:masks --batch 64 --steps 20000 --rate 8e-4 --ema 0.9995 "
        "--save-every 1000 --sheet-every 4000",
        SMALL,
    ),
    Job(
        "text",
        "text --width 256 --layers 8 --batch 256 --steps 15000 --rate 1e-3 --ema 0.9995 --precision bf16 "
        "--save-every 1000 --sheet-every 4000",
        f"{SMALL} --width 32 --layers 1 --precision no",
    ),
)


def run(jobs: Sequence[Job], out: Path, deadline: float, device: str, smoke: bool) -> list[str]:
    """Run or resume what is not done until the deadline (:func:`time.monotonic`); return the names of what is left."""
    for number, job in enumerate(jobs):
        folder = out / job.name
        if (folder / "done").is_file():
            continue
        if deadline - time.monotonic() < 2 * SPARE:
            return [job.name for job in jobs[number:]]
        words = job.words(out, device, smoke)
        resume = ["--resume"] if (folder / "recipe.json").is_file() else []
        click.echo(f"steer train {' '.join([*words, *resume])}")
        code = _train([*words, *resume], deadline - SPARE)
        click.echo(f"{job.name}: {_progress(folder)}")
        if code == 0:
            (folder / "done").touch()
        elif time.monotonic() < deadline - SPARE:
            raise click.ClickException(f"{job.name} ended with code {code}; its messages are above")
    return [job.name for job in jobs if not (out / job.name / "done").is_file()]


def _train(words: Sequence[str], until: float) -> int:
    """Run ``steer train`` and stop it at a time, by the signal at which it writes a checkpoint."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    process = subprocess.Popen([sys.executable, "-m", "steer", "train", *words], cwd=ROOT, env=environment)
    try:
        return process.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(SPARE)
    except subprocess.TimeoutExpired:  # a step that takes longer loses what came after the last checkpoint
        process.kill()
        return process.wait()


def _progress(folder: Path) -> str:
    """Return the last row of a log."""
    with suppress(OSError, ValueError, IndexError):
        row = json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        return ", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, (int, float)))
    return "nothing logged yet"


def _replaced(words: Sequence[str], by: Sequence[str]) -> list[str]:
    """Return a command line with the values of some options replaced, or added if it lacks them."""
    found = list(words)
    for name, value in zip(by[::2], by[1::2], strict=True):
        if name in found:
            found[found.index(name) + 1] = value
        else:
            found += [name, value]
    return found


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("outputs/training"), show_default=True)
@click.option("--minutes", type=click.FloatRange(1), default=9.0, show_default=True, help="Most minutes of this call.")
@click.option("--only", multiple=True, type=click.Choice([job.name for job in JOBS]), help="These alone; repeatable.")
@click.option("--device", default="cuda", show_default=True)
@click.option("--smoke", is_flag=True, help="A few steps of each, on the CPU.")
def main(out: Path, minutes: float, only: tuple[str, ...], device: str, smoke: bool) -> None:
    """Train the embedded models on a GPU; run again to go on."""
    deadline = time.monotonic() + 60 * minutes
    jobs = [job for job in JOBS if not only or job.name in only]
    left = run(jobs, out.absolute(), deadline, "cpu" if smoke else device, smoke)
    click.echo(f"left: {', '.join(left)}; run this again" if left else f"all done: {out}")


if __name__ == "__main__":
    main()
