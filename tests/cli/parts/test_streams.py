"""Standard streams: what programs read is steer's alone, and a stdout that is full or closed costs no work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image
from support import processes
from support.commands import Steer

from steer.cli.app import app
from steer.cli.parts.streams import reserve

NOISY = """
import ctypes, os, subprocess, sys
print("noise at import")
def noisy(samples, prompts):
    print("noise of print")
    sys.__stdout__.write("noise of another stream\\n")
    os.write(1, b"noise of a descriptor\\n")
    ctypes.CDLL(None).puts(b"noise of C")
    subprocess.run(["echo", "noise of a child"])
    return samples.mean(dim=(1, 2, 3))
def judge(samples, prompts): return noisy(samples, prompts)
"""
REWARD = ["-r", "./noisy.py:noisy"]
COMMANDS = {
    "generate": ["generate", "a 猫", *REWARD, "--baseline", "--json"],
    "render": ["render", "p.txt", *REWARD, "--out", "r", "--json"],
    "plan": ["render", "p.txt", *REWARD, "--dry-run", "--json"],
    "compare": ["compare", "p.txt", *REWARD, "--judge", "./noisy.py:judge", "--method", "plain", "--json"],
    "replay": ["replay", "made/x-000.png", "--allow-files", "--json"],
    "score --json": ["score", "photo.png", "--prompt", "", *REWARD, "--json"],
    "score --csv": ["score", "photo.png", "--prompt", "", *REWARD, "--csv"],
    "rewards": ["rewards", "./noisy.py:noisy", "--truth", "./noisy.py:judge", "--json"],
    "check": ["check", "reward", "./noisy.py:noisy", "--json"],
}
SAMPLING = ("generate", "render", "plan", "compare", "bench")


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command by its words."""
    context = click.Context(app, **app.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{above}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


def test_every_command_for_programs_reserves_stdout() -> None:
    found = {
        f"{words} {option.opts[0]}": option.callback
        for words, command in commands(app)
        for option in command.params
        if {"--json", "--csv"} & set(option.opts)
    }
    assert len(found) >= 16
    assert set(found.values()) == {reserve}, found


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_what_others_print_goes_to_stderr(steer: Steer, tiny: Path, place: Path, name: str) -> None:
    (place / "noisy.py").write_text(NOISY)
    (place / "p.txt").write_text("".join(f"a red circle {n}\n" for n in range(6)))
    Image.new("RGB", (16, 16), "red").save(place / "photo.png")
    small = ["-m", tiny, "--steps", "1", "--guidance", "1"]
    if name == "replay":
        (place / "one.jsonl").write_text('{"prompt": "a red circle", "id": "x"}')
        assert steer("generate", "-f", "one.jsonl", *REWARD, *small, "--out", "made").code == 0
    done = steer(*COMMANDS[name], *(small if name in SAMPLING else []))
    assert done.code == 0, done.err
    if name == "score --csv":
        assert done.out.splitlines()[0] == "file,prompt,./noisy.py:noisy" and len(done.out.splitlines()) == 2
    else:
        for line in done.out.splitlines() if name == "render" else [done.out]:
            json.loads(line)
    if name != "plan":
        for kind in ("print", "another stream", "a descriptor", "C", "a child"):
            assert f"noise of {kind}\n" in done.err
    assert steer("gallery", "--help").out.startswith("Usage")  # all is as it was


GENERATE = ["generate", "猫", "--steps", 1, "--guidance", 1, "--out", "out"]


def _finished(place: Path, tiny: Path, *more: object, output: str = "o.txt", **environment: str) -> tuple[int, str]:
    child = processes.start([*GENERATE, "-m", tiny, *more], place, output, "errors.txt", environment)
    if output == "pipe":
        os.close(os.open(place / "pipe", os.O_RDONLY))
    child.join(timeout=300)
    assert child.exitcode is not None
    assert json.loads((place / "out" / "result.json").read_text())["items"][0]["prompt"] == GENERATE[1]
    return child.exitcode, (place / "errors.txt").read_text()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_stdout_is_one_line_and_exit_code_1(tiny: Path, place: Path, more: list[str]) -> None:
    code, told = _finished(place, tiny, *more, output="/dev/full")
    assert (code, told.splitlines()) == (
        1, ["steer: error: stdout cannot be written to (No space left on device); files are complete"],
    )  # fmt: skip


SCORED = ["-r", "./rewards.py:brightness"]
READ = ["photo.png", "--steps", 1, "--draws", 1]
PROGRAMS = [
    ["plugins"], ["plugins", "show", "fk"], ["doctor"], ["download", "shapes"], ["rewards", "./rewards.py:brightness"],
    ["check", "reward", "./rewards.py:brightness"], ["score", "photo.png", "--prompt", "", *SCORED],
    ["segment", *READ], ["classify", *READ], ["gallery", "made"], ["replay", "made/x-000.png"], ["generate", "a"],
    ["render", "p.txt", "--dry-run"], ["render", "p.txt", "--out", "r"],
    ["finish", "--picks", "picks.txt", "--steps", 1, "--out", "full"],
    ["compare", "p.txt", *SCORED, "--judge", "./rewards.py:judge", "--method", "plain"],
    ["bench", "shapes-bench", "--limit", 1, "--images", 1], ["measure", "dist", "texts.jsonl"],
    ["measure", "accuracy", "classes.csv", "--reference", "classes.csv"],
    ["measure", "miou", "masks", "--reference", "masks"],
    ["measure", "clip", "masks", "--prompt", "a red circle"],
    ["measure", "cmmd", "masks", "--reference", "masks", "--clip", "shapes"],
]  # fmt: skip
"""Every command with ``--json``, except those of :data:`WITHOUT_WEIGHTS`."""
WITHOUT_WEIGHTS = [["measure", name, "masks", "--reference", "masks"] for name in ("fid", "kid", "lpips")]
"""Commands whose weights are not here; tests/evaluate/measure gives them random ones."""


@pytest.fixture
def brought(steer: Steer, tiny: Path, place: Path) -> Path:
    """A folder with all that these commands read."""
    with (place / "rewards.py").open("a") as file:
        file.write("def judge(samples, prompts): return brightness(samples, prompts)\n")
    (place / "p.txt").write_text("".join(f"a red circle {n}\n" for n in range(6)))
    (place / "one.jsonl").write_text('{"prompt": "a red circle", "id": "x", "n": NaN}')
    Image.new("RGB", (16, 16), "red").save(place / "photo.png")
    (place / "picks.txt").write_text("drafts/images/x-000.png\n")
    assert steer("render", "one.jsonl", *_small(["render"], tiny), "--out", "drafts").code == 0
    (place / "masks").mkdir()
    Image.new("L", (16, 16), 1).save(place / "masks" / "photo.png")
    (place / "classes.csv").write_text("file,class\nphoto.png,red\n")
    (place / "texts.jsonl").write_text('{"prompt": "a", "text": "one word and another"}\n')
    assert steer("generate", "-f", "one.jsonl", *_small(["generate"], tiny), "--out", "made").code == 0
    return place


def _small(words: list[Any], tiny: Path) -> list[object]:
    return ["-m", tiny, "--steps", 1, "--guidance", 1] if words[0] in SAMPLING else []


@pytest.mark.slow
@pytest.mark.thorough  # many processes
def test_a_full_stdout_of_any_command(tiny: Path, brought: Path) -> None:
    silent = [["--help"], ["--version"], ["generate", "--help"], ["new", "method", "mine"], ["categories", "a"]]
    for words in [*silent, *PROGRAMS, *([*words, "--json"] for words in PROGRAMS)]:
        more = [] if "--help" in words else _small(words, tiny)
        child = processes.start([*words, *more], brought, "/dev/full", "errors.txt")
        child.join(timeout=300)
        told = (brought / "errors.txt").read_text()
        if (
            words[0] in ("render", "finish") and "--json" not in words and "--dry-run" not in words
        ):  # they print nothing
            assert child.exitcode == 0
            continue
        assert child.exitcode == 1, (words, told)
        assert told.splitlines()[-1].startswith("steer: error: stdout cannot be written to (No space"), (words, told)
        assert "Traceback" not in told


@pytest.mark.slow
def test_json_of_any_command_is_strict(steer: Steer, tiny: Path, brought: Path) -> None:
    having = {words for words, command in commands(app) for option in command.params if "--json" in option.opts}
    assert having <= {" ".join(map(str, words[:count])) for words in [*PROGRAMS, *WITHOUT_WEIGHTS] for count in (1, 2)}

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    for words in PROGRAMS:
        done = steer(*words, *_small(words, tiny), "--json")
        assert done.code in (0, 1), (words, done.err)
        lines = words[0] in ("render", "finish") and "--dry-run" not in words
        for text in done.out.splitlines() if lines else [done.out]:
            json.loads(text, parse_constant=refuse)
    for words in WITHOUT_WEIGHTS:
        assert "copy it here" in steer(*words, "--json").error()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away_ends_nothing(tiny: Path, place: Path, more: list[str]) -> None:
    os.mkfifo(place / "pipe")
    assert _finished(place, tiny, *more, output="pipe") == (141, "")


def test_a_render_goes_on_without_its_reader(tiny: Path, place: Path) -> None:
    (place / "p.txt").write_text("".join(f"a red circle {n}\n" for n in range(6)))
    os.mkfifo(place / "pipe")
    words = ["render", "p.txt", "-m", tiny, "--steps", 1, "--guidance", 1, "--out", "r", "--json"]
    child = processes.start(words, place, "pipe", "errors.txt")
    with (place / "pipe").open() as pipe:
        assert json.loads(pipe.readline())["event"] == "begin"
    child.join(timeout=300)
    assert (child.exitcode, (place / "errors.txt").read_text()) == (141, "")
    assert len((place / "r" / "metadata.jsonl").read_text().splitlines()) == 6


CLOSING = """
import os, sys
def r(samples, prompts):
    sys.stdout.close(), sys.stderr.close()
    os.close(1), os.close(2)
    return samples.mean(dim=(1, 2, 3))
"""


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reward_that_closes_streams_ends_nothing(tiny: Path, place: Path, more: list[str]) -> None:
    (place / "rewards.py").write_text(CLOSING)
    assert _finished(place, tiny, "-r", "./rewards.py:r", *more) == (0, "")
    assert "\\u732b" in (place / "o.txt").read_text() or "猫" in (place / "o.txt").read_text()


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_letters_that_an_encoding_lacks_are_escaped(tiny: Path, place: Path, encoding: str) -> None:
    (place / "rewards.py").write_text("def r(samples, prompts): return samples.mean(dim=(1, 2, 3))")
    code, told = _finished(place, tiny, "-r", "./rewards.py:r", PYTHONIOENCODING=encoding)
    assert (code, told) == (0, "")
    assert "\\u732b" in (place / "o.txt").read_text(encoding)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_the_null_device(place: Path, closed: str) -> None:
    code = (
        "import os, sys; sys.argv = ['steer', 'plugins', '--json']\n"
        "from steer.cli.app import main\n"
        "try: main()\n"
        "finally: assert os.open('x', os.O_CREAT) > 2"
    )
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (closed == "2>&-")
