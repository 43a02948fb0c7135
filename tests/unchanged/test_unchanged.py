"""Behavior is unchanged: what an earlier version made is made again, and what it began is gone on with.

The same bits on the kind of machine that made them; elsewhere arithmetic differs in its last bits, so images may by
up to 3 of 255. README.md says where the set comes from.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.commands import Steer
from support.families.z_image import tiny_z_image
from support.machines import machine
from support.renders import lines

from steer.settings.run_settings import renewed

# loads a model for each sample; what it checks are bits
pytestmark = [pytest.mark.arithmetic, pytest.mark.slow]

DATA = Path(__file__).parent / "data"
FINISHED = ("render", "uneven", "compare")
ELSEWHERE = 3
"""By how many of 255 an image may differ on another kind of machine."""

RENDER = ["prompts.jsonl", "-p", "fk", "-r", "shapes", "-n", 3, "--steps", 6]
UNEVEN = ["uneven.jsonl", "-m", "z-image", "--size", "24x16", "--steps", 3, "--choose", "all"]
COMPARE = ["compared.jsonl", "-r", "shapes", "--judge", "clip:shapes", "--budget", "nfe=24", "--steps", 4, "--seed", 7]
TIMES = {"seconds", "memory_mb"}
"""What differs at every run."""


SAME = machine() == json.loads((DATA / "made.json").read_text())
AGAIN = {"carinox", "dmd2-best-of-n", "symmflow-classes"}
"""Made again, elsewhere, when the weights of the students and of `symmflow:classes` changed."""
SAME_AGAIN = machine() == json.loads((DATA / "made-again.json").read_text())


@pytest.fixture(scope="session")
def z_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model whose prompts never share a forward; never change it."""
    folder = tmp_path_factory.mktemp("models") / "z-image"
    tiny_z_image().save_pretrained(folder)
    return folder


@pytest.fixture
def old(place: Path, z_image: Path) -> Path:
    """A copy of the set to work in."""
    shutil.copytree(DATA, place, dirs_exist_ok=True)
    (place / "z-image").symlink_to(z_image)
    return place


def samples() -> list[str]:
    """Return the last sample of each prompt: all particles are made again for any one."""
    paths = sorted(DATA.glob("*/*-[0-9][0-9][0-9].*"))
    return [str(path.relative_to(DATA)) for path in {(path.parent, path.stem[:-4]): path for path in paths}.values()]


@pytest.mark.parametrize("sample", samples())
def test_a_sample_is_made_again(steer: Steer, old: Path, sample: str) -> None:
    done = steer("replay", sample, "--json")
    assert done.code == 0, done.err
    same = SAME_AGAIN if sample.partition("/")[0] in AGAIN else SAME or sample.endswith(".txt")
    assert json.loads(done.out)["max_difference"] <= (0 if same else ELSEWHERE)


@pytest.mark.parametrize(("name", "arguments"), [("render", RENDER), ("uneven", UNEVEN)])
def test_a_render_goes_on_in_an_old_folder(steer: Steer, old: Path, name: str, arguments: list[object]) -> None:
    # one that was killed, by its run file
    begun = lines(old / f"{name}-killed" / "journal.jsonl")
    done = steer("render", "--config", f"{name}-killed/run.toml", "--json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert sum(event["event"] == "done" for event in events) == len(lines(old / name / "journal.jsonl")) - len(begun)
    for file in ("journal.jsonl", "details.jsonl", "metadata.jsonl"):
        check_rows(DATA / name / file, old / f"{name}-killed" / file)
    check_images(DATA / name, old / f"{name}-killed")
    assert "format = 1" in (old / f"{name}-killed" / "run.toml").read_text()  # what decides the size of its forwards

    # one that is done, by the command that made it
    done = steer("render", *arguments, "--out", name, "--json")
    assert (done.code, json.loads(done.out.splitlines()[0])["todo"]) == (0, 0), done.err
    for path in (DATA / name).rglob("*.*"):
        if path.name != "run.toml" and path.is_file():
            assert (old / path.relative_to(DATA)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("name", ["compare-killed", "compare"])
def test_a_comparison_goes_on_in_an_old_folder(steer: Steer, old: Path, name: str) -> None:
    done = steer("compare", *COMPARE, "--out", name)
    assert done.code == 0, done.err
    cells = sorted((DATA / "compare" / "cells").iterdir())
    assert [path.name for path in cells] == sorted(path.name for path in (old / name / "cells").iterdir())
    for path in cells:
        check_rows(path, old / name / "cells" / path.name)
    check_images(DATA / "compare", old / name)


def check_rows(then: Path, now: Path) -> None:
    """Check that JSON lines say the same by id, times excepted. Rows may say more than they did."""
    expected, found = ({(row["id"], row.get("slot")): row for row in lines(file)} for file in (then, now))
    assert list(found) == list(expected) if then.name == "metadata.jsonl" else set(found) == set(expected)
    for key, row in expected.items():
        check(row, found[key], f"{then.name}, {key}")


def check(then: Any, now: Any, where: str) -> None:
    """Check that data say the same."""
    if isinstance(then, dict):
        then, now = renewed(then), renewed(now)  # keys have today's names
        for name in then.keys() - TIMES:
            assert name in now, f"{where}: {name} is gone"
            if name != "versions" and not (name == "thumbnails" and not SAME):
                check(then[name], now[name], f"{where}.{name}")
    elif isinstance(then, list):
        assert len(then) == len(now), where
        for number, (one, other) in enumerate(zip(then, now, strict=True)):
            check(one, other, f"{where}[{number}]")
    else:
        near = isinstance(then, float) and not SAME
        assert now == (pytest.approx(then, rel=0.02, abs=0.02) if near else then), where


def check_images(then: Path, now: Path) -> None:
    """Check that two folders hold the same images."""
    names = sorted(path.relative_to(then) for path in then.rglob("images/**/*.png"))
    assert names == sorted(path.relative_to(now) for path in now.rglob("images/**/*.png"))
    for name in names:
        one, other = (np.asarray(Image.open(folder / name).convert("RGB")).astype(int) for folder in (then, now))
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= (0 if SAME else ELSEWHERE), name
