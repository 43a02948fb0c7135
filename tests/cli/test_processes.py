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
from pathlib import Path

import pytest

from .conftest import Steer


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


def test_json_is_one_document_and_all_else_is_stderr(process: Steer, tiny: Path, place: Path) -> None:
    arguments = ["-m", tiny, "--steps", "2", "-p", "fk", "-r", "./rewards.py:brightness", "--json", "--out", "out"]
    done = process("generate", "a red circle", *arguments)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == json.loads((place / "out" / "result.json").read_text())


def test_a_mistake_is_one_line_and_exit_code_2(process: Steer, tiny: Path, place: Path) -> None:
    line = process("generate", "a", "-m", tiny, "-r", "./rewards.py:raises", "--steps", "2", "--out", "out").error()
    assert "KeyError" in line
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
    assert all(name in rows["plugin", "zz-clash"]["health"] for name in ("brought by two plugins", "'fk'", "zz-clash"))
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


def test_ctrl_c_keeps_what_is_finished(place: Path, tiny: Path) -> None:
    prompts = place / "many.txt"
    prompts.write_text("\n".join(f"a red circle {'a ' * n}" for n in range(400)))
    command = [sys.executable, "-m", "steer", "generate", "-f", str(prompts), "-m", str(tiny), "-n", "32"]
    command += ["--steps", "4", "--choose", "weighted", "--out", "out"]
    running = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a shell's background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    out = place / "out"
    _wait(lambda: len(list(out.glob("traces/*.json"))) > 1, running)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Traceback" not in err and "interrupted" in err
    data = json.loads((out / "result.json").read_text())
    assert data["complete"] is False and 0 < len(data["items"]) < 400
    assert not list(place.rglob(".*"))


def test_the_bar_shows_step_time_and_best_reward_on_a_terminal(place: Path, tiny: Path) -> None:
    command = [sys.executable, "-m", "steer", "generate", "a red circle", "-m", str(tiny), "--steps", "60", "-p", "fk"]
    command += ["-r", "./rewards.py:brightness", "--out", "out"]
    master, slave = pty.openpty()
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    )
    os.close(slave)
    seen = _read(master, running)
    assert running.returncode == 0, seen
    assert re.search(r"step \d+/60", seen)
    assert re.search(r"best reward [0-9.]+", seen)
    assert re.search(r"\d:\d\d:\d\d", seen)


def _read(master: int, running: subprocess.Popen[bytes]) -> str:
    seen = b""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.5)
        if ready:
            try:
                seen += os.read(master, 65536)
                continue
            except OSError:  # the other end is closed
                break
        if running.poll() is not None:
            break
    running.wait(timeout=30)
    if running.stdout:
        running.stdout.close()
    os.close(master)
    return seen.decode(errors="replace")


def _wait(condition: object, running: subprocess.Popen[str], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        if running.poll() is not None:
            pytest.fail(f"ended early: {running.communicate()}")
        time.sleep(0.02)
    running.kill()
    pytest.fail("nothing was written in time")


def _install(site: Path, dist: str, entry: str, module: str, source: str) -> None:
    """Put a tiny installed distribution on a path."""
    info = site / f"{dist.replace('-', '_')}-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(f"[steer]\n{entry} = {module}\n")
    (site / f"{module}.py").write_text(source)
