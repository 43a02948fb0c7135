"""Damaged inputs, by a seed: every one is accepted, or refused by one line.

    python benchmarks/fuzz.py --kind recipes [--seed 0] [--count 10000] [--first 0] [--json] [--keep FOLDER]

``prompts`` are prompt files of every format. ``runs`` are run files, ``steer.toml``, and the files of folders in which
render, compare and score go on. ``recipes`` are recipes and prompts in images and beside texts. ``expressions`` are
rewards, options, methods and settings as they are typed. Commands run whole but for the work of models
(:mod:`dry_commands`). It is a fault if one ends in a traceback, takes 2 s of processor time or 300 MB, writes outside
of its output folder, leaves something half-written, or prints a control character or a message of several lines. Input
``n`` depends on the seed and ``n`` alone. Inputs at fault are kept; the exit code is then 1.
"""

import faulthandler
import json
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import click
from dry_commands import Reached, TooLong
from fuzz_commands import expressions, recipes, runs
from fuzz_prompts import prompts

STUCK = 60
"""Seconds after which C code that never returns ends the process, and says where."""


class Case(Protocol):
    """One damaged input."""

    def check(self) -> str:
        """Read it; return how that ended. Whatever is raised is a fault."""

    def keep(self, folder: Path) -> None:
        """Write it down."""


KINDS: dict[str, Callable[[], AbstractContextManager[Callable[[random.Random], Any]]]] = {
    "prompts": prompts,
    "runs": runs,
    "recipes": recipes,
    "expressions": expressions,
}


def run(kind: str, count: int, seed: int, *, first: int = 0, keep: Path | None = None) -> Counter[str]:
    """Check damaged inputs; return how many ended how. What fails is told on stderr."""
    outcomes, faults = Counter[str](), Counter[str]()
    with KINDS[kind]() as case_of:
        numbers = range(first, first + count)
        with click.progressbar(numbers, label=kind, file=sys.stderr, update_min_steps=100) as bar:
            for number in bar:
                case: Case = case_of(random.Random(f"{kind} {seed} {number}"))
                faulthandler.dump_traceback_later(STUCK, exit=True)
                try:
                    outcomes[case.check()] += 1
                except (Exception, TooLong, Reached) as error:
                    outcomes["failed"] += 1
                    fault = _place(error)
                    faults[fault] += 1
                    told = traceback.format_exc(limit=-6)[-3000:] if faults[fault] == 1 else fault  # each once
                    click.echo(f"\n{kind} {seed} {number}: {told}", err=True)
                    if keep is not None:
                        case.keep(keep / f"{kind}-{seed}-{number}")
                finally:
                    faulthandler.cancel_dump_traceback_later()
    return outcomes


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


@click.command()
@click.option("--kind", type=click.Choice(sorted(KINDS)), required=True, help="What is damaged.")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Inputs.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first input.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the damage.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--keep", type=click.Path(path_type=Path), default=Path("outputs/fuzz"), show_default=True, metavar="FOLDER",
    help="Where inputs at fault are kept.",
)  # fmt: skip
def main(kind: str, count: int, first: int, seed: int, as_json: bool, keep: Path) -> None:
    """Read damaged inputs of one kind."""
    begun = time.monotonic()
    outcomes = run(kind, count, seed, first=first, keep=keep.resolve())
    seconds = time.monotonic() - begun
    if as_json:
        told = {"kind": kind, "seed": seed, "first": first, "count": count, "seconds": round(seconds, 1), **outcomes}
        click.echo(json.dumps(told))
    else:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        click.echo(f"{kind}, seed {seed}, {count} inputs: {counts}; {seconds:.0f} s")
    sys.exit(1 if outcomes["failed"] else 0)


if __name__ == "__main__":
    main()
