"""Ray: two workers make the images of one process, also when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import warnings
from collections import deque
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import psutil
import pytest
import ray
import torch
from support import processes
from support.renders import digests, lines

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.registry.local_files import load_module
from steer.render.outcomes import Failed
from steer.render.ray_engine import TRIES, RayEngine, Worker, _Mistake, _Pull, send_local_files, worker_count
from steer.render.spec import Spec
from steer.sampling.request import SamplingRequest


@pytest.mark.thorough
def test_two_workers_one_of_them_killed(place: Path) -> None:
    arguments = ["render", "prompts.jsonl", "-m", "tiny", "-p", "fk", "-r", "./rewards.py:brightness", "-n", 2]
    arguments += ["--steps", 12, "--chunk", 4]  # long enough to be killed in
    alone = processes.start([*arguments, "--out", "alone"], place)
    alone.join(timeout=300)
    together = processes.start(
        [*arguments, "--out", "together", "--engine", "ray", "--workers", 2, "--json"], place, "ray.txt"
    )
    killed = _kill_a_worker(together.pid, place / "together" / "journal.jsonl")
    together.join(timeout=500)
    text = (place / "ray.txt").read_text()
    assert (alone.exitcode, together.exitcode, killed) == (0, 0, True), text
    assert digests(place / "together") == digests(place / "alone")
    done = [row["id"] for row in lines(place / "together" / "journal.jsonl")]
    assert len(done) == len(set(done)) == len(digests(place / "alone"))
    assert "steer: warning: a Ray worker died" in text
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "end" and events[-1]["failed"] == 0


def _kill_a_worker(driver: int | None, journal: Path) -> bool:
    """Kill one of a driver's workers as soon as something is done."""
    while psutil.pid_exists(driver or 0):
        try:
            children = psutil.Process(driver).children(recursive=True)
            workers = [child for child in children if "ray::Worker" in " ".join(child.cmdline())]
        except psutil.Error:  # one of them has just ended
            continue
        if workers and journal.exists() and journal.stat().st_size:
            os.kill(workers[0].pid, signal.SIGKILL)
            return True
        time.sleep(0.01)
    return False


def test_a_prompt_that_kills_its_workers_is_given_up_alone() -> None:
    engine = RayEngine.__new__(RayEngine)
    engine._workers, engine._loading = [None], [None]  # type: ignore[list-item]
    engine._make = lambda: _Actor()
    waiting = deque([_Pull(tuple(Prompt(text) for text in "abc"))])
    running: dict = {"other": (0, _Pull((Prompt("d"),)))}
    given_up: list[Failed] = []
    for _ in range(40):  # every pack with "b" kills; all else is done
        if not waiting:
            break
        pull = waiting.popleft()
        if "b" in pull.pack:
            given_up += engine._replace(0, pull, waiting, running)
    assert [failed.id for failed in given_up] == [Prompt("b").id]
    assert f"{TRIES} workers died" in given_up[0].reason and not running and not waiting


@pytest.mark.parametrize(
    ("asked", "gpus", "cpus", "count", "told"),
    [(None, 2, 8, 2, False), (4, 2, 8, 2, True), (1, 2, 8, 1, False), (3, 0, 8, 3, False), (9, 0, 4, 4, True),
     (None, 0, 1, 1, False)],
)  # fmt: skip
def test_no_more_workers_than_can_run(asked, gpus, cpus, count, told) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert worker_count(asked, gpus, cpus) == count
    assert bool(caught) is told


def test_only_workers_that_answered_are_fed() -> None:
    engine = RayEngine.__new__(RayEngine)
    engine._workers, engine._loading = [_Actor(), _Actor()], ["stuck", "loaded"]  # type: ignore[list-item]
    engine._ray = SimpleNamespace(wait=lambda all_of_them, **_: ([one for one in all_of_them if one == "loaded"], []))
    waiting, running = deque(_Pull((Prompt(text),)) for text in "abcdef"), {}
    engine._feed(waiting, running)
    assert running and {place for place, _ in running.values()} == {1}


def test_a_machine_that_lacks_the_model_says_so(tmp_path: Path) -> None:
    worker = Worker(Spec(SamplingRequest(str(tmp_path / "nothere"))), str(tmp_path), None)
    mistake = worker.render((Prompt("a red circle"),))
    assert isinstance(mistake, _Mistake) and "nothere" in mistake.text and socket.gethostname() in mistake.text


class _Actor:
    class render:  # noqa: N801
        @staticmethod
        def remote(pack: object) -> object:
            return object()

    class load:  # noqa: N801 — an actor's method is an object with remote()
        @staticmethod
        def remote() -> None:
            return None


def test_a_model_in_memory_cannot_travel(tiny_pipe: object) -> None:
    with pytest.raises(SteerError, match="by name or folder"):
        RayEngine(Spec(SamplingRequest(tiny_pipe)))  # type: ignore[arg-type]


def test_what_a_local_file_defines_travels_whole(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("FACTOR = 2.0\ndef bright(samples, prompts): return FACTOR * samples.mean(dim=(1, 2, 3))\n")
    module = load_module(str(file))
    send_local_files(ray)
    sent = ray.cloudpickle.dumps(module.bright)
    del sys.modules[module.__name__]  # as on another machine
    assert ray.cloudpickle.loads(sent)(torch.full((1, 3, 2, 2), 0.25), ["a"]).tolist() == [0.5]


@pytest.mark.slow  # starts Ray
def test_no_more_workers_than_gpus_and_one_that_never_loads_is_never_fed(tmp_path: Path, monkeypatch) -> None:
    class Light:
        """A worker without a model, of which only the first to begin ever loads."""

        def __init__(self, *_: object) -> None:
            pass

        def load(self) -> None:
            try:
                (tmp_path / "first").mkdir()
            except FileExistsError:
                time.sleep(600)

        def render(self, pack: tuple[str, ...]) -> list[tuple[str, tuple[str, ...], int]]:
            return [(str(os.getpid()), pack, len(ray.get_gpu_ids()))]

    monkeypatch.setattr("steer.render.ray_engine.Worker", Light)
    monkeypatch.setattr("steer.render.ray_engine.os.cpu_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # Ray looks whether there can be two
    start = ray.init
    monkeypatch.setattr(ray, "init", lambda **given: start(**given, num_gpus=2))
    with pytest.warns(UserWarning, match="3 workers were asked for, but Ray has 2 GPUs: 2 are started"):
        engine = RayEngine(Spec(SamplingRequest("tiny")), workers=3)
    try:
        assert len(engine._workers) == 2
        done = [outcome() for outcome in engine.outcomes([(f"{n}",) for n in range(6)], Event())]
    finally:
        engine.close()
    assert sorted(pack for _, pack, _ in done) == [(f"{n}",) for n in range(6)]
    assert len({process for process, _, _ in done}) == 1 and {gpus for *_, gpus in done} == {1}
