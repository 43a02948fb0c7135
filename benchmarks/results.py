"""Re-make docs/results.md from scratch: every benchmark of the page, as many at a time as there are cores.

    python benchmarks/results.py [--out outputs/results] [--workers N]

Each benchmark runs on one thread and writes its own section. Finished benchmarks are skipped and interrupted ones
resume; delete the output folder to measure again. ``logs/`` of the output folder has their output, ``took.json`` their
times, with all attempts added up.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from steer.results.storage import write_atomic

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Part:
    """A benchmark of the page.

    Attributes:
        name: of its folder, and of its script unless that has another name.
        after: parts that it reads the folders of.
        threads: it has an option ``--threads`` (the others keep to one thread).
        reads: options that name other parts' folders.
        script: its name.
        given: further options.
    """

    name: str
    after: tuple[str, ...] = ()
    threads: bool = False
    reads: tuple[tuple[str, str], ...] = ()
    script: str | None = None
    given: tuple[str, ...] = ()

    def command(self, out: Path) -> list[str]:
        """Return what runs it."""
        words = [sys.executable, str(HERE / f"{self.script or self.name}.py"), "--out", str(out / self.name)]
        words += self.given
        words += ["--threads", "1"] if self.threads else []
        return words + [word for option, part in self.reads for word in (option, str(out / part))]


PARTS = (
    Part("compare", given=("--question", "nfe", "--question", "students", "--question", "steps")),
    Part("compare-seconds", script="compare", given=("--question", "seconds", "--question", "flow")),
    Part("carinox", threads=True),
    Part("symmflow", threads=True),
    Part("handover", threads=True),
    Part("students", ("handover",), threads=True, reads=(("--handover", "handover"),)),
    Part("drafts"),
    Part("video"),
    Part("text"),
)  # fmt: skip
"""Long ones first, and inputs of others before them, so that no core waits long at the end. The comparison at 160
evaluations, which takes more than an hour, is left to ``benchmarks/compare.py --question more``."""


class PartError(Exception):
    """A part ended with an error."""


class Runner:
    """Runs parts as processes that end with this one."""

    def __init__(self, out: Path) -> None:
        """Make one for an output folder."""
        self._out = out
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._turn = threading.Lock()

    def __call__(self, part: Part) -> None:
        """Run a part.

        Raises:
            PartError: if it ends with an error, or all were stopped before it began.
        """
        log = self._out / "logs" / f"{part.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("ab") as file:
            with self._turn:  # or one begun while the others are stopped would run on
                if self._stopped:
                    raise PartError(f"{part.name} was not begun")
                child = subprocess.Popen(
                    part.command(self._out), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment,
                    start_new_session=True,
                )  # fmt: skip
                self._running.add(child)
            code = child.wait()
            self._running.discard(child)
        if code:
            raise PartError(f"{part.name} ended with code {code}; the end of {log} says why")

    def stop(self) -> None:
        """End what runs, and what that has begun: a part may train in processes of its own."""
        with self._turn:
            self._stopped = True
            for child in list(self._running):
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)


def run_all(
    parts: Sequence[Part],
    done: Collection[str],
    workers: int,
    start: Callable[[Part], None],
    end: Callable[[Part], None],
    stop: Callable[[], None],
) -> None:
    """Run parts that are not done, each after those that it reads.

    Args:
        parts: in the order in which they are begun where they can.
        done: names of those that are finished; one that reads what is made now is made again.
        workers: at a time.
        start: runs a part to its end.
        end: called after each that succeeded.
        stop: called at Ctrl-C and at any other error, ends what runs.

    Raises:
        PartError: if one failed, when what ran beside it has ended too; no other is begun.
    """
    left = [part for part in parts if part.name not in done]
    left += [part for part in parts if part.name in done and {other.name for other in left}.intersection(part.after)]
    missing = {part.name for part in left}
    at_work: dict[Future[None], Part] = {}
    failure: PartError | None = None
    with ThreadPoolExecutor(workers) as pool:
        try:
            while left or at_work:
                ready = [part for part in left if failure is None and not missing.intersection(part.after)]
                for part in ready[: workers - len(at_work)]:
                    left.remove(part)
                    at_work[pool.submit(start, part)] = part
                if not at_work:
                    break
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    part = at_work.pop(future)
                    try:
                        future.result()
                    except PartError as error:
                        failure = failure or error
                    else:
                        missing.discard(part.name)
                        end(part)
        except BaseException:
            stop()  # or the pool would wait for what runs
            raise
    if failure is not None:
        raise failure


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "results", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count(), show_default="cores")
def main(out: Path, workers: int) -> None:
    """Re-make every section of docs/results.md."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    turn = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise click.UsageError(f"{out} is at work already; wait for it, or choose another --out") from None
    record = out / "took.json"
    took: dict[str, dict[str, Any]] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    done = {name for name, row in took.items() if row["done"]}
    runner, began = Runner(out), time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        click.echo(f"[{minutes // 60}:{minutes % 60:02}:{seconds:02}] {text}")

    def start(part: Part) -> None:
        say(f"{part.name} …")
        started, before = time.monotonic(), took.get(part.name, {}).get("seconds", 0.0)
        try:
            runner(part)
        finally:
            took[part.name] = {"seconds": before + time.monotonic() - started, "done": False}

    def end(part: Part) -> None:
        took[part.name]["done"] = True
        write_atomic(record, json.dumps(took, indent=1).encode())
        say(f"{part.name}: {took[part.name]['seconds'] / 60:.1f} min")

    if done:
        say(f"finished before, delete {out} to measure anew: {', '.join(sorted(done))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's wish
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        run_all(PARTS, done, workers, start, end, runner.stop)
    except PartError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        write_atomic(record, json.dumps(took, indent=1).encode())
    say(f"docs/results.md is made: {sum(row['seconds'] for row in took.values()) / 60:.0f} min of parts")


if __name__ == "__main__":
    main()
