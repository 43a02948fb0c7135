"""What `make results` runs when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support import processes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import at_once
import fuzz
import gpu
import gpu_parts
import train_on_gpu
from results import Part, PartError, Runner, run_all

PARTS = [Part("long"), Part("early"), Part("reader", ("early",)), Part("last")]


def made(done: set[str], workers: int, failing: str | None = None) -> tuple[list[str], list[str], int]:
    """Return what was begun and what ended, in order, and the most at a time."""
    begun: list[str] = []
    ended: list[str] = []
    at_work, most = 0, 0
    lock, first_two = threading.Lock(), threading.Barrier(workers, timeout=60)

    def start(part) -> None:
        nonlocal at_work, most
        with lock:
            begun.append(part.name)
            at_work += 1
            most = max(most, at_work)
            number = len(begun)
        if number <= workers:
            first_two.wait()  # as many as there are workers are at work at once
        with lock:
            at_work -= 1
        if part.name == failing:
            raise PartError(part.name)

    def end(part) -> None:
        ended.append(part.name)

    if failing is None:
        run_all(PARTS, done, workers, start, end, lambda: None)
    else:
        with pytest.raises(PartError, match=failing):
            run_all(PARTS, done, workers, start, end, lambda: None)
    return begun, ended, most


def test_every_benchmark_can_be_imported() -> None:
    root = Path(__file__).resolve().parents[1] / "benchmarks"
    for folder in (root, root / "reproduce"):
        assert processes.importing(folder, sorted(path.stem for path in folder.glob("*.py"))) == 0


def test_parts_run_side_by_side_and_after_what_they_read() -> None:
    begun, ended, most = made(set(), 2)
    assert sorted(begun) == sorted(ended) == ["early", "last", "long", "reader"]
    assert most == 2 and set(begun[:2]) == {"long", "early"}
    assert ended.index("early") < begun.index("reader") + 1
    assert begun.index("reader") > begun.index("early")


def test_what_is_done_is_skipped_unless_what_it_reads_is_made_anew() -> None:
    assert made({"long", "early", "last"}, 1)[0] == ["reader"]
    assert made({"long", "reader", "last"}, 1)[0] == ["early", "reader"]


def test_a_failure_begins_nothing_more() -> None:
    begun, ended, _ = made(set(), 1, failing="early")
    assert (begun, ended) == (["long", "early"], ["long"])


class Trains(Part):
    """A part that leaves the work to a process of its own."""

    def command(self, out: Path) -> list[str]:
        child = (
            f"open({str(out / 'child')!r}, 'w').write(str(__import__('os').getpid())); __import__('time').sleep(600)"
        )
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
        return [sys.executable, "-c", parent]


def test_stopping_ends_what_a_part_has_begun(tmp_path: Path) -> None:
    runner, failed = Runner(tmp_path), []

    def run() -> None:
        try:
            runner(Trains("trains"))
        except PartError as error:
            failed.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    place = tmp_path / "child"
    wait_for(lambda: place.is_file() and place.read_text() != "")
    pid = int(place.read_text())
    runner.stop()
    thread.join(60)
    assert not thread.is_alive() and "trains ended with code" in failed[0]
    wait_for(lambda: not alive(pid))


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_ended_with_all_that_it_has_begun(tmp_path: Path) -> None:
    command = Trains("trains").command(tmp_path)
    done = []
    thread = threading.Thread(target=lambda: done.append(gpu.ended(command, os.environ, tmp_path / "log", 2)))
    thread.start()
    place = tmp_path / "child"
    wait_for(lambda: place.is_file() and place.read_text() != "")
    pid = int(place.read_text())
    thread.join(60)
    assert done == [None]
    wait_for(lambda: not alive(pid))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three parts in this process, of which the second fails; returns what was run."""
    ran: list[str] = []

    def part(name: str, *rows: gpu.Row):
        def run(machine: gpu.Machine):
            ran.append(name)
            yield from rows

        return run

    def ended(command, environment, log: Path, seconds: float) -> int | None:
        log.write_text("Traceback\nZeroDivisionError: none")
        name = command[command.index("--part") + 1]
        if seconds <= 0:
            return None
        gpu.main(command[2:], standalone_mode=False)
        return int(name == "broken")

    found = {"wrong": part("wrong", {"ok": False, "gap": 0.51234}), "broken": part("broken", {"x": 1}),
             "right": part("right", {"a": "b|c"}, {"n": 2, "ok": True})}  # fmt: skip
    monkeypatch.setattr(gpu, "PARTS", found)
    monkeypatch.setattr(gpu, "ended", ended)
    return ran


def table_of(out: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(gpu.main, ["--smoke", "--out", str(out), *arguments])
    return done.exit_code, done.stdout


def test_parts_on_a_gpu_resume_with_what_is_missing_then_what_failed(parts: list[str], tmp_path: Path) -> None:
    code, text = table_of(tmp_path)
    assert code == 1 and parts == ["wrong", "broken", "right"]
    assert "# device cpu" in text and "## wrong (0 s): NOT GOOD" in text and "| False | 0.512 |" in text
    assert "ZeroDivisionError: none" in text and "| b\\|c |  |  |" in text
    (folder,) = tmp_path.iterdir()
    assert (folder / "report.md").read_text() == text
    (folder / "right.json").unlink()
    parts.clear()
    assert table_of(tmp_path)[0] == 1 and parts == ["right", "wrong", "broken"]
    parts.clear()
    assert table_of(tmp_path, "--minutes", "0")[0] == 1 and not parts  # left for another run, and not failed anew
    assert "ZeroDivisionError" in (folder / "broken.json").read_text()
    for name in ("wrong", "broken"):
        (folder / f"{name}.json").unlink()
    assert table_of(tmp_path, "--minutes", "0")[0] == 0


def test_a_row_that_fails_or_finds_no_memory_loses_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def full(row: gpu.Row) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(row: gpu.Row) -> None:
        row["seconds"] = 1
        raise KeyError("of\nnothing")

    left_out = gpu_parts.filled({"family": "flux"}, full)
    assert left_out == {"family": "flux", "left_out": "out of memory"} and gpu.good([left_out])
    failed = gpu_parts.filled({"family": "sdxl"}, broken)
    assert failed == {"family": "sdxl", "seconds": 1, "failed": "KeyError: 'of\\nnothing'", "ok": False}
    assert not gpu.good([failed]) and "in broken" in capsys.readouterr().err


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_for(met, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_training_stops_in_time_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_on_gpu, "SPARE", 20.0)
    small = "text --width 32 --layers 1 --batch 2 --precision no --sheet-every 1000000 --log-every 1"
    long, short = (train_on_gpu.Job("text", f"{small} --steps {steps}", "") for steps in (1_000_000, 1))
    assert train_on_gpu.run([long], tmp_path, time.monotonic() + 45, "cpu", False) == ["text"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "text" / "log.jsonl").read_text().splitlines()]
    assert 0 < len(steps) < 1_000_000
    more = train_on_gpu.Job("text", f"{small} --steps {steps[-1] + 1}", "")
    assert train_on_gpu.run([more], tmp_path, time.monotonic() + 300, "cpu", False) == []
    again = [json.loads(line)["step"] for line in (tmp_path / "text" / "log.jsonl").read_text().splitlines()]
    assert again == [*steps, steps[-1] + 1] and (tmp_path / "text" / "model").is_dir()
    assert train_on_gpu.run([short], tmp_path, time.monotonic() + 300, "cpu", False) == []  # it is done


def test_options_of_a_smoke_replace_those_of_the_command() -> None:
    for job in train_on_gpu.JOBS:
        words = job.words(Path("out"), "cpu", smoke=True)
        assert len({word for word in words if word.startswith("--")}) == sum(word.startswith("--") for word in words)
        assert words[words.index("--steps") + 1] == "2"


@pytest.mark.slow
def test_damaged_prompt_files_are_read_or_refused() -> None:
    outcomes = fuzz.run("prompts", 200, seed=0)
    assert outcomes["failed"] == 0 and outcomes["accepted"] > 20 and outcomes["refused"] > 50


@pytest.mark.slow  # loads two models and makes the folders that are damaged
@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["runs", "recipes", "expressions"])
def test_damaged_inputs_of_commands_are_accepted_or_refused(kind: str) -> None:
    outcomes = fuzz.run(kind, 150, seed=0)
    assert outcomes["failed"] == 0 and outcomes["accepted"] > 15 and outcomes["refused"] > 15


@pytest.mark.slow
@pytest.mark.thorough  # 16 commands as processes
@pytest.mark.process
def test_commands_at_once_are_whole_or_refused() -> None:
    outcomes, faults = at_once.run(rounds=2, commands=8, seed=0)
    assert not faults and outcomes["done"] >= 8


@pytest.mark.slow
@pytest.mark.thorough  # three processes, each of which imports torch
def test_a_reproduction_runs_on_tiny_models_and_says_what_it_did_not_check(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "reproduce" / "dmd2.py"
    command = [sys.executable, str(script), "--smoke", "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    report = (tmp_path / "report.md").read_text()
    assert "Not checked:" in report and "tiny models and few prompts" in report and report.count("\n| ") > 2
