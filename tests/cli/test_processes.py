"""What only a real process shows: exit codes, streams, signals, terminals and installed plugins."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from support import processes
from support.commands import Steer


def test_help_is_quick_and_imports_no_torch(place: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "steer", "--help"]
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0
    assert {"generate", "plugins", "replay"} <= set(done.stdout.split())
    assert not re.search(r"\| +(torch|diffusers|transformers|matplotlib)$", done.stderr, re.MULTILINE)
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 2  # half a second on a machine that is not shared


def test_json_is_one_document_and_all_else_is_stderr(tiny: Path, place: Path) -> None:
    arguments = ["-m", tiny, "--steps", "2", "-p", "fk", "-r", "./rewards.py:brightness", "--json", "--out", "out"]
    running = processes.start(["generate", "a red circle", *arguments], place, "json.txt", "errors.txt")
    running.join(timeout=300)
    assert (running.exitcode, (place / "errors.txt").read_text()) == (0, "")
    assert json.loads((place / "json.txt").read_text()) == json.loads((place / "out" / "result.json").read_text())


def test_a_mistake_is_one_line_and_exit_code_2(tiny: Path, place: Path) -> None:
    arguments = ["generate", "a", "-m", tiny, "-r", "./rewards.py:raises", "--steps", 2, "--out", "out"]
    (line,) = processes.finished(place, *arguments, code=2).splitlines()
    assert line.startswith("steer: error: ") and "KeyError" in line
    assert not (place / "out").exists()


def test_plugins_lists_broken_and_clashing_ones_and_goes_on(process: Steer, place: Path) -> None:
    _install(place / "site", "broken-dist", "broken", "broken_module", "import nothing_called_this\n")
    clash = (
        "from steer import hookimpl\n"
        "@hookimpl\n"
        "def steer_register(registry):\n"
        "    registry.method('fk', 'clash_module:X', summary='another fk')\n"
    )
    _install(place / "site", "clash-dist", "zz-clash", "clash_module", clash)
    _install(place / "site", "unmarked-dist", "unmarked", "unmarked_module", "def steer_register(registry): pass\n")
    done = process("plugins", "--json", PYTHONPATH=str(place / "site"))
    assert (done.code, done.err) == (0, "")
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.out)}
    assert rows["method", "fk"]["health"] == "ok"
    assert "No module named 'nothing_called_this'" in rows["plugin", "broken"]["health"]
    assert all(name in rows["plugin", "zz-clash"]["health"] for name in ("provided by two plugins", "'fk'", "zz-clash"))
    assert "add @steer.hookimpl" in rows["plugin", "unmarked"]["health"]
    assert "broken-dist" in rows["plugin", "broken"]["origin"] and rows["plugin", "broken"]["version"] == "0.3"


def test_show_prints_every_option_with_its_declaration(steer: Steer) -> None:
    (shown,) = json.loads(steer("plugins", "show", "fk", "--json").out)
    rows = {row["name"]: row for row in shown["options"]}
    assert rows["lambda"] == {
        "name": "lambda", "type": "float", "default": rows["lambda"]["default"], "range": rows["lambda"]["range"],
        "meaning": rows["lambda"]["meaning"],
    }  # fmt: skip
    assert all(row["type"] and row["meaning"] for row in shown["options"])
    text = steer("plugins", "show", "fk").out
    assert "fk.lambda" in text.replace("\n", "")
    assert "size fk.particles, at least 2 particles per prompt" in text
    (shown,) = json.loads(steer("plugins", "show", "best-of-n", "--json").out)
    assert shown["sizing"] == {
        "size_option": "n", "budget_option": "nfe", "clock_option": "seconds", "least_particles": 1,
    }  # fmt: skip


def test_ctrl_c_keeps_what_is_finished(place: Path, tiny: Path) -> None:
    prompts = place / "many.txt"
    prompts.write_text("\n".join(f"a red circle {'a ' * n}" for n in range(400)))
    command = ["generate", "-f", prompts, "-m", tiny, "-n", 32, "--steps", 4, "--choose", "weighted", "--out", "out"]
    running = processes.start(command, place)
    out = place / "out"
    _wait(lambda: len(list(out.glob("traces/*.json"))) > 1, running)
    assert running.pid
    os.kill(running.pid, signal.SIGINT)
    running.join(timeout=120)
    text = (place / "output.txt").read_text()
    assert running.exitcode == 130
    assert "Traceback" not in text and "interrupted" in text
    data = json.loads((out / "result.json").read_text())
    assert data["complete"] is False and 0 < len(data["items"]) < 400
    assert not list(place.rglob(".*"))


SWALLOWS = """
import os, signal, time
from pathlib import Path

def at_once(samples, prompts):
    if not Path("sent").exists():
        Path("sent").touch()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    return samples.mean(dim=(1, 2, 3))

def first(samples, prompts):
    return swallows(samples, prompts, when=".")

def swallows(samples, prompts, when="out/traces"):
    if Path(when).is_dir() and not Path("sent").exists():
        Path("sent").touch()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        except KeyboardInterrupt:  # as Python itself does in finalizers
            pass
    return samples.mean(dim=(1, 2, 3))
"""


def test_ctrl_c_is_not_lost_where_a_library_swallows_it(place: Path, tiny: Path) -> None:
    (place / "swallows.py").write_text(SWALLOWS)
    (place / "some.txt").write_text("\n".join(f"a red circle {'a ' * n}" for n in range(60)))
    command = ["generate", "-f", "some.txt", "-m", tiny, "-n", 32, "--steps", 2, "-r", "./swallows.py:swallows"]
    text = processes.finished(place, *command, "--out", "out", code=130)
    finished = len(json.loads((place / "out" / "result.json").read_text())["items"])
    assert 0 < finished < 60 and f"stopped: {finished} of 60 prompts are finished" in text


def test_ctrl_c_while_samples_are_scored_is_at_once(place: Path, tiny: Path) -> None:
    (place / "swallows.py").write_text(SWALLOWS)
    processes.finished(
        place, "generate", "a", "-m", tiny, "--steps", 2, "-r", "./swallows.py:at_once", "--out", "out", code=130
    )
    assert not (place / "out").exists()


def test_ctrl_c_between_the_steered_run_and_the_plain_one_keeps_the_steered(place: Path, tiny: Path) -> None:
    (place / "swallows.py").write_text(SWALLOWS)
    command = ["generate", "a", "-m", tiny, "--steps", 2, "-r", "./swallows.py:first", "--baseline", "--out", "out"]
    processes.finished(place, *command, code=130)
    data = json.loads((place / "out" / "result.json").read_text())
    assert data["complete"] is False and len(data["items"]) == 1
    assert not (place / "out" / "plain").exists()


def test_the_bar_shows_step_time_and_best_reward_on_a_terminal(place: Path, tiny: Path) -> None:
    command = ["generate", "a red circle", "-m", tiny, "--steps", 60, "-p", "fk", "-r", "./rewards.py:brightness"]
    master, slave = pty.openpty()
    running = processes.start(
        [*command, "--out", "out"], place, "output.txt", os.ttyname(slave), {"TERM": "xterm", "COLUMNS": "80"}
    )
    seen = _read(master, running)
    os.close(slave)
    os.close(master)
    assert running.exitcode == 0, seen
    assert re.search(r"step \d+/60", seen)
    assert re.search(r"best reward [0-9.]+", seen)
    assert re.search(r"\d:\d\d:\d\d", seen)


def _read(master: int, running: BaseProcess) -> str:
    """Return what comes at a terminal until a process has ended."""
    seen = b""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        ended = not running.is_alive()  # asked before: what it wrote last is still read
        ready, _, _ = select.select([master], [], [], 0 if ended else 0.2)
        if ready:
            seen += os.read(master, 65536)
        elif ended:
            break
    running.join(timeout=30)
    return seen.decode(errors="replace")


def _wait(condition: Callable[[], bool], running: BaseProcess, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert running.is_alive() and time.monotonic() < deadline, "ended early, or nothing was written in time"
        time.sleep(0.02)


def _install(site: Path, dist: str, entry: str, module: str, source: str) -> None:
    """Put a tiny installed distribution on a path."""
    info = site / f"{dist.replace('-', '_')}-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(f"[steer]\n{entry} = {module}\n")
    (site / f"{module}.py").write_text(source)
