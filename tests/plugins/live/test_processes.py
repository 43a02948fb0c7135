"""``steer live`` as a process: its address and token, ends by signals, and a queue that outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import requests
from support import processes
from support.commands import Steer

from steer.render.replay import read_recipe

SECONDS = 120
LONG = {"prompt": "a red circle", "seed": 3, "steer": {"steps": 24, "method": "fk", "reward": "shapes", "particles": 2}}
SHORT = {"prompt": "a blue square", "seed": 4, "steer": {"steps": 1}}


class Process:
    """A server that can be ended in any way, and started again."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.web = requests.Session()
        self.web.trust_env = False
        self.start(*arguments)

    def start(self, *more: str, **environment: str) -> None:
        (self.folder / "output.txt").unlink(missing_ok=True)
        arguments: list[object] = ["live", "--port", "0", *more]
        self.child: ForkServerProcess = processes.start(arguments, self.folder, environment=environment)
        self.url = self.until(lambda: re.search(r" at (http://[^/\s]+/)", self.output()), "an address")[1]

    def output(self) -> str:
        file = self.folder / "output.txt"
        return file.read_text() if file.is_file() else ""

    def until(self, done: Callable[[], Any], what: str) -> Any:
        limit = time.monotonic() + SECONDS
        while time.monotonic() < limit:
            if found := done():
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {what}\n{self.output()}")

    def submit(self, asked: dict[str, Any]) -> str:
        answer = self.web.post(f"{self.url}api/jobs", json=asked, timeout=SECONDS)
        assert answer.status_code == 202, answer.text
        return answer.json()["jobs"][0]["id"]

    def job(self, identity: str) -> dict[str, Any]:
        return self.web.get(f"{self.url}api/jobs/{identity}", timeout=SECONDS).json()

    def steps(self, identity: str) -> None:
        """Wait for the first step of a job."""
        with self.web.get(f"{self.url}api/jobs/{identity}/events", stream=True, timeout=SECONDS) as stream:
            for line in stream.iter_lines():
                if line == b"event: step":
                    return
        raise AssertionError("it made no step")

    def end(self, number: signal.Signals) -> int | None:
        assert self.child.pid is not None
        os.kill(self.child.pid, number)
        self.child.join(SECONDS)
        return self.child.exitcode


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.child.kill()
    made.child.join()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outputs/live/live.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough), signal.SIGKILL]
)
def test_an_ended_server_leaves_nothing_half_written_and_goes_on(process: Process, number: signal.Signals) -> None:
    running, waiting, stopped = (process.submit(asked) for asked in (LONG, SHORT, SHORT))
    assert process.web.post(f"{process.url}api/jobs/{stopped}/stop", json={}).status_code == 200
    waits = process.web.get(f"{process.url}api/jobs/{waiting}/events", stream=True, timeout=SECONDS)
    process.steps(running)
    code = process.end(number)
    assert code == (130 if number == signal.SIGINT else -number), process.output()
    assert "Traceback" not in process.output()
    waits.close()
    assert {line["id"]: line["status"] for line in lines(process.folder)} == {
        running: "queued", waiting: "queued", stopped: "stopped",
    }  # fmt: skip
    assert not [file for file in (process.folder / "outputs").rglob("*") if file.suffix in (".part", ".png")]
    if number == signal.SIGINT:  # as after the others
        return

    process.start()
    for identity in (running, waiting):
        process.until(lambda identity=identity: process.job(identity)["status"] == "done", "the end of a job")
    files = [file for file in (process.folder / "outputs/live" / running).glob("*.png") if file.name != "sheet.png"]
    recipe, slot = read_recipe(files[0])
    assert (recipe.prompt["seed"], recipe.settings["steps"], slot < 2) == (3, 24, True)
    assert "going on with 2 jobs" in process.output()


@pytest.mark.slow
def test_beyond_this_machine_a_token_is_needed(tmp_path: Path) -> None:
    process = Process(tmp_path, "--host", "0.0.0.0")
    try:
        token = re.search(r"\?token=(\S+);", process.output())
        assert token is not None and len(token[1]) >= 32
        port = process.url.rstrip("/").rpartition(":")[2]
        url = f"http://127.0.0.1:{port}"
        assert process.web.get(url).status_code == 401
        assert process.web.get(f"{url}/?token={token[1]}").status_code == 200
        assert process.web.get(f"{url}/api/jobs").status_code == 200  # by the cookie
        assert requests.get(f"{url}/api/jobs", timeout=SECONDS).status_code == 401
    finally:
        process.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "fk"), "No such option"),
        (("-p", "fkk"), "did you mean 'fk'"),
        (("--queue", "0"), "--queue"),
        (("-o", "fk.lambda=-1", "-p", "fk"), "fk.lambda"),
        (("--host", "192.0.2.1"), "cannot listen"),
        (("--out", "file"), "is a file"),
    ],
)
def test_mistakes_in_the_command_are_told_in_one_line(
    steer: Steer, place: Path, arguments: tuple[str, ...], said: str
) -> None:
    (place / "file").write_text("")
    error = steer("live", "-m", "shapes", "--port", 0, *arguments).err.splitlines()
    assert len(error) == 1 and said in error[0]
