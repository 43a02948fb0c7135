"""Real processes: killed, interrupted, two at a time, out of disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from PIL import Image
from support import processes
from support.processes import finished
from support.renders import PROMPTS, digests, lines, write_prompts

KILLS = 4


def command(out: object = "out", *more: object) -> list[object]:
    return [
        "render", "prompts.jsonl", "-m", "tiny", "-p", "fk", "-r", "./rewards.py:brightness", "-n", 2, "--steps", 3,
        "--chunk", 4, "--out", out, *more,
    ]  # fmt: skip


def wait(condition: Callable[[], bool], child: BaseProcess, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert child.is_alive() and time.monotonic() < deadline, "ended too early, or nothing came"
        time.sleep(0.005)


def journalled(out: Path) -> int:
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def kill(child: BaseProcess, number: int = signal.SIGKILL) -> None:
    assert child.pid is not None
    with contextlib.suppress(ProcessLookupError):  # it may be faster than its killer
        os.kill(child.pid, number)
    child.join(timeout=120)


def test_killed_at_random_nothing_is_lost_and_nothing_made_twice(place: Path) -> None:
    finished(place, *command("whole"))
    expected = digests(place / "whole")
    assert len(expected) == PROMPTS
    random_moment = random.Random(0)
    out = place / "out"
    for _ in range(KILLS):
        # anywhere: while it loads, plans, computes or writes
        lines_until = min(journalled(out) + random_moment.choice((0, 1, 3)), PROMPTS)
        child = processes.start(command(), place)
        wait(lambda count=lines_until: journalled(out) >= count, child)  # type: ignore[misc]
        time.sleep(random_moment.random() * 0.1)
        kill(child)
        for image in out.rglob("*.png"):
            Image.open(image).load()
    finished(place, *command())
    assert digests(out) == expected
    done = [row["id"] for row in lines(out / "journal.jsonl")]
    assert sorted(set(done)) == sorted(f"p{number}" for number in range(PROMPTS))
    assert len(done) == len(set(done))
    assert sorted(row["id"] for row in lines(out / "metadata.jsonl")) == sorted(done)
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
    assert "0.00 samples/s" in finished(place, *command())


def test_ctrl_c_finishes_what_is_in_flight_and_says_how_to_go_on(place: Path) -> None:
    write_prompts(place, count := 28)
    child = processes.start(command(), place)
    wait(lambda: journalled(place / "out") > 0, child)
    kill(child, signal.SIGINT)
    text = (place / "output.txt").read_text()
    assert child.exitcode == 130, text
    assert "finishing what is in flight" in text and "to resume: steer render --config out/run.toml" in text
    some = len(lines(place / "out" / "metadata.jsonl"))
    assert 0 < some < count and some == len(digests(place / "out"))
    (place / "prompts.jsonl").unlink()
    text = finished(place, "render", "--config", "out/run.toml", "--json")
    events = [json.loads(line) for line in text.splitlines()]
    assert (events[0]["event"], events[0]["done"], events[0]["todo"]) == ("begin", some, count - some)
    assert sum(event["event"] == "done" for event in events) == count - some
    assert (events[-1]["event"], events[-1]["done"], events[-1]["stopped"]) == ("end", count, False)


def test_two_renders_into_one_folder(place: Path) -> None:
    first = processes.start(command(), place)
    wait(lambda: (place / "out" / "run.toml").exists(), first)
    second = processes.start(command(), place, "second.txt")
    second.join(timeout=120)
    error = (place / "second.txt").read_text()
    if first.is_alive() or second.exitcode:
        assert second.exitcode == 2 and f"in use by process {first.pid}" in error
    first.join(timeout=120)
    assert first.exitcode == 0
    assert "begun with steps=3, got steps=4" in finished(place, *command("out", "--steps", 4), code=2)


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own of 200 kB."""
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a file system; tests/results/storage has the limit that needs none")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_it_and_room_lets_it_go_on(place: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 120_000)
    text = finished(place, *command("disk/out"), code=2)
    assert "No space left on device" in text and "run again to resume" in text
    (line,) = (line for line in text.splitlines() if line.startswith("steer: error"))
    assert f"of {PROMPTS} prompts are done" in line
    out = small_disk / "out"
    for image in out.rglob("*.png"):
        Image.open(image).load()
    assert all(row["status"] == "done" for row in lines(out / "journal.jsonl"))
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    finished(place, *command("disk/out"))
    finished(place, *command("whole"))
    assert digests(out) == digests(place / "whole")


def test_a_place_that_cannot_be_written_to(place: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    text = finished(place, *command("disk/out"), code=2)
    assert "disk/out cannot be written to (Read-only file system)" in text and len(text.splitlines()) == 1
