"""Every file of JSON that commands write parses strictly, whatever numbers a run came to."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.commands import Steer

METHOD = """
import steer

class Odd(steer.Method):
    name = "odd"

    @steer.hookimpl
    def finish(self, state):
        state.log_weight = state.log_weight - float("inf")
        state.note("odd", value=[float("nan")] * len(state.slot), other=state.log_weight)
"""


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each piece of JSON below a folder with the place that it stands in."""
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".json":
            yield str(file), file.read_text()
        elif file.suffix == ".jsonl":
            yield from ((str(file), line) for line in file.read_text().split("\n")[:-1])
        elif file.suffix == ".js":
            yield str(file), "[" + file.read_text().removeprefix("steer.take(").removesuffix(");\n") + "]"
        elif file.suffix == ".png" and "steer" in (found := Image.open(file).info):
            yield str(file), found["steer"]


def refuse(constant: str) -> Any:
    """Refuse what is no JSON."""
    raise ValueError(constant)


@pytest.mark.parametrize("command", ["generate", "render", "compare"])
def test_all_json_of_a_folder_is_strict(steer: Steer, tiny: Path, place: Path, command: str) -> None:
    (place / "odd.py").write_text(METHOD)
    rows = "".join(f'{{"prompt": "a red circle {n}", "note": NaN, "deep": [Infinity]}}\n' for n in range(6))
    (place / "p.jsonl").write_text(rows)
    words = {
        "generate": ["generate", "-f", "p.jsonl", "-p", "./odd.py", "-n", 2],
        "render": ["render", "p.jsonl", "-p", "./odd.py", "-n", 2],
        "compare": ["compare", "p.jsonl", "--method", "plain", "--judge", "./rewards.py:brightness"],
    }[command]
    reward = "jpeg" if command == "compare" else "./rewards.py:brightness"
    small = ["-m", tiny, "-r", reward, "--steps", 1, "--guidance", 1, "--out", "out", "--json"]
    done = steer(*words, *small)
    assert done.code == 0, done.err
    if command == "generate":
        assert steer("gallery", "out").code == 0
    printed = [("stdout", line) for line in (done.out.splitlines() if command == "render" else [done.out])]
    found = [*texts(place / "out"), *printed]
    assert len(found) > 4
    for where, text in found:
        try:
            json.loads(text.encode(), parse_constant=refuse)
        except ValueError as error:
            pytest.fail(f"{where}: {error}: {text[:200]}")
    if command == "generate":
        assert any("null" in text and "traces" in where for where, text in found)
    if shutil.which("jq"):
        everything = "\n".join(text for _, text in found)
        subprocess.run(["jq", "-e", "true"], input=everything, text=True, check=True, capture_output=True)
