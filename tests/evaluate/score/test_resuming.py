"""``steer score`` in bounded memory, and what a kill leaves."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import processes

SLOW = """
import time
def bright(samples, prompts):
    time.sleep(0.05)
    with open("calls.txt", "a") as file: file.write(f"{len(prompts)} ")
    return samples.mean(dim=(1, 2, 3))
"""
SCORE = ["score", "pics", "-r", "./slow.py:bright", "--prompt", "", "--batch", 3, "--device", "cpu"]

PEAK = """
import resource
def bright(samples, prompts):
    with open("peaks.txt", "a") as file: file.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} ")
    return samples.mean(dim=(1, 2, 3))
"""


def _pictures(folder: Path, sizes: list[tuple[int, int]]) -> None:
    folder.mkdir()
    for number, size in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / f"{number:03d}.png", compress_level=1)


def test_killed_at_half_it_resumes_and_the_file_is_as_without(place: Path) -> None:
    (place / "slow.py").write_text(SLOW)
    _pictures(place / "pics", [(16 + i % 4, 16) for i in range(48)])
    processes.finished(place, *SCORE, "--out", "whole.jsonl")
    whole = (place / "whole.jsonl").read_bytes()
    assert whole.count(b"\n") == 48
    (place / "calls.txt").unlink()
    running, out = processes.start([*SCORE, "--out", "scores.jsonl"], place), place / "scores.jsonl"
    while not out.is_file() or out.read_bytes().count(b"\n") < 20:
        assert running.is_alive()
        time.sleep(0.01)
    running.kill()
    running.join()
    half = out.read_bytes()
    assert 20 <= half.count(b"\n") < 48 and whole.startswith(half)
    (place / "calls.txt").unlink()
    processes.finished(place, *SCORE, "--out", "scores.jsonl")
    assert out.read_bytes() == whole
    assert sum(map(int, (place / "calls.txt").read_text().split())) == 48 - half.count(b"\n")
    assert not list(place.glob(".scores*"))


def test_two_at_once_do_not_share_a_file(place: Path) -> None:
    (place / "slow.py").write_text(SLOW)
    _pictures(place / "pics", [(16, 16)] * 30)
    running = [processes.start([*SCORE, "--out", "s.jsonl"], place, f"{number}.txt") for number in range(2)]
    for one in running:
        one.join(timeout=300)
    said = "".join((place / f"{number}.txt").read_text() for number in range(2))
    assert sorted(one.exitcode or 0 for one in running) in ([0, 2], [0, 0])  # the second may begin after the first
    assert ("s.jsonl is in use by process" in said) == any(one.exitcode for one in running)
    assert (place / "s.jsonl").read_text().count("\n") == 30


def test_outputs_that_cannot_be_are_one_line(steer, tmp_path: Path) -> None:
    _pictures(tmp_path / "pics", [(16, 16)])
    code, out, told = steer("pics", "-r", "./rewards.py:bright", "--prompt", "", "--out", "a.csv")
    assert (code, out) == (2, "") and "name it .jsonl, or use --csv > a.csv" in told
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    code, out, told = steer("pics", "-r", "./rewards.py:bright", "--prompt", "", "--out", "circle.jsonl")
    assert (code, out) == (2, "") and told.count("\n") == 1, told


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_sizes(place: Path) -> None:
    (place / "peak.py").write_text(PEAK)
    peaks = {}
    for name, sizes in (("same", [(800, 560)] * 40), ("other", [(800 - i, 560) for i in range(40)])):
        (place / name).mkdir()
        for number, size in enumerate(sizes):
            Image.new("RGB", size).save(place / name / f"{number:03d}.png")
        arguments = ["score", name, "-r", "./peak.py:bright", "--prompt", "", "--device", "cpu"]
        processes.finished(place, *arguments, "--out", f"{name}.jsonl")
        peaks[name] = max(map(int, (place / "peaks.txt").read_text().split()))
        (place / "peaks.txt").unlink()
    held = 40 * 800 * 560 * 3 * 4 / 1024  # kB of all images
    assert peaks["other"] - peaks["same"] < held / 3, peaks
