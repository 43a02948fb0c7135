"""``steer generate``: where its values come from, and what it leaves and says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from support.commands import Steer

RUN = """
model = "{model}"
prompts = ["a photo"]
steps = 3
particles = 2
plugin = ["fk"]
reward = "./rewards.py:brightness"
[options.fk]
lambda = 3.0
"""


@pytest.mark.slow  # four figures of traces
def test_a_run_file_and_what_overrides_it(steer: Steer, tiny: Path, place: Path) -> None:
    (place / "run.toml").write_text(RUN.format(model=tiny))
    arguments = ["generate", "--config", "run.toml", "--json", "--out", "out", "--force"]
    recipe = json.loads(steer(*arguments, "-n", "3", "-o", "fk.lambda=4").out)["items"][0]["recipe"]
    assert recipe["prompt"]["text"] == "a photo"
    assert (recipe["settings"]["particles"], recipe["settings"]["steps"]) == (3, 3)
    assert float(recipe["options"]["fk"]["lambda"]) == 4.0
    typed = json.loads(steer(*arguments, "a red circle").out)
    assert [item["prompt"] for item in typed["items"]] == ["a red circle"]
    piped = json.loads(steer(*arguments, "-f", "-", stdin="a red circle\r\n\nthe square\n").out)
    assert [item["prompt"] for item in piped["items"]] == ["a red circle", "the square"]


@pytest.mark.slow
def test_the_default_model(steer: Steer, tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["generate", "a red circle", "--steps", "1", "--out", "out", "--force"]
    (place / "steer.toml").write_text(f'model = "{tiny}"')
    assert f"model: {tiny} (steer.toml)" in steer(*arguments).err
    monkeypatch.setenv("STEER_MODEL", "nothere")
    assert "'nothere'" in steer(*arguments).err
    monkeypatch.delenv("STEER_MODEL")
    (place / "steer.toml").write_text("modle = 3")
    assert "did you mean 'model'" in steer(*arguments).error()


@pytest.mark.slow  # figures of traces and sheets
def test_the_folder_and_the_report_of_a_comparison(
    steer: Steer, tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = "a red circle [/] [red] to the left of the blue square and a photo of the circle and the square"
    arguments = ["-m", tiny, "--steps", "4", "-p", "fk", "-r", "./rewards.py:brightness", "--baseline", "--out", "out"]
    done = steer("generate", "a red circle", long, *arguments)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    table = [line.split()[-4:] for line in done.out.splitlines() if re.search(r"( +\d\.\d{3}){4} *$", line)]
    assert len(table) == 3 and all(0 <= float(cell) <= 1 for row in table for cell in row)
    data = json.loads((place / "out" / "result.json").read_text())
    shown = [float(cell) for cell in table[0]]
    expected = [data["baseline"][0]["mean_reward"], data["baseline"][0]["reward"]]
    expected += [data["items"][0]["mean_reward"], data["items"][0]["reward"]]
    assert shown == pytest.approx(expected, abs=6e-4)
    for name in ("sheet.png", "compare.png", "plain/sheet.png", "plain/result.json", *_files(data)):
        assert (place / "out" / name).stat().st_size > 0
    assert Image.open(place / "out" / "compare.png").width > 8 * 100
    assert not list(place.rglob(".*"))  # no temporary file is left


def _files(data: dict) -> list[str]:  # type: ignore[type-arg]
    stems = [Path(item["files"][0]).stem.rsplit("-", 1)[0] for item in data["items"]]
    traces = [f"traces/{stem}.{kind}" for stem in stems for kind in ("json", "png")]
    return [*(file for item in data["items"] for file in item["files"]), *traces]
