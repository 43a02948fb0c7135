"""Local plugin files: what they may import, and what importing them leaves behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from support.commands import Steer
from support.tiny import tiny_sd

import steer
from steer import SteerError
from steer.registry.local_files import load_module


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


BESIDE = {
    "helper_of_mine.py": "import numbers_of_mine.primes\nVALUE = numbers_of_mine.primes.FIRST",
    "numbers_of_mine/__init__.py": "",
    "numbers_of_mine/primes.py": "from .base import ONE\nimport other_of_mine\nFIRST = ONE + other_of_mine.VALUE",
    "numbers_of_mine/base.py": "ONE = 1",
    "other_of_mine.py": "VALUE = 1",
    "bare_of_mine/inside.py": "VALUE = 2",
}

FORMS = {
    "import": "import helper_of_mine\nV = helper_of_mine.VALUE",
    "as": "import numbers_of_mine.primes as p\nV = p.FIRST",
    "dotted": "import numbers_of_mine.primes\nV = numbers_of_mine.primes.FIRST",
    "from": "from helper_of_mine import VALUE as V",
    "star": "from helper_of_mine import *\nV = VALUE",
    "submodule": "from numbers_of_mine import primes\nV = primes.FIRST",
    "relative": "from .helper_of_mine import VALUE as V",
    "relative module": "from . import helper_of_mine as h\nV = h.VALUE",
    "namespace": "from bare_of_mine.inside import VALUE as V",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("late", [False, True])
def test_a_file_imports_what_lies_beside_it(tmp_path, form, late) -> None:
    code = FORMS[form]
    if late and "*" not in code:
        code = "def found():\n" + "".join(f"    {line}\n" for line in code.splitlines()) + "    return V"
    else:
        code += "\ndef found():\n    return V"
    written(tmp_path, {**BESIDE, "my-plugin.py": code})
    paths, modules = list(sys.path), set(sys.modules)
    assert load_module(str(tmp_path / "my-plugin.py")).found() == 2
    assert sys.path == paths
    assert {name.partition("_local_")[0] for name in set(sys.modules) - modules} == {"steer"}
    with pytest.raises(ModuleNotFoundError):
        import helper_of_mine  # noqa: F401 # pyright: ignore[reportMissingImports]


def test_neighbors_of_one_name_do_not_meet(tmp_path) -> None:
    for number in (1, 2):
        files = {"mine.py": "import common_of_mine\nVALUE = common_of_mine.VALUE"}
        written(tmp_path / str(number), {**files, "common_of_mine.py": f"VALUE = {number}"})
    assert [load_module(str(tmp_path / str(n) / "mine.py")).VALUE for n in (1, 2)] == [1, 2]


def test_files_of_one_folder_share_what_lies_beside_them(tmp_path) -> None:
    files = {"a.py": "import common", "b.py": "import common, a", "common.py": "LIST = []"}
    written(tmp_path, files)
    b = load_module(str(tmp_path / "b.py"))
    assert load_module(str(tmp_path / "a.py")) is b.a and b.a.common is b.common


def test_a_neighbor_stands_for_no_library(tmp_path) -> None:
    code = "import steer, json, torch\nfrom dataclasses import dataclass\nmodules = steer, json, torch"
    files = {"steer/__init__.py": "", "json.py": "", "torch/notes.txt": "", "mine.py": code}
    assert load_module(str(written(tmp_path, files) / "mine.py")).modules == (steer, json, torch)


def test_what_is_missing_is_named_as_it_was_written(tmp_path) -> None:
    files = {"numbers_of_mine/__init__.py": "", "a.py": "import nothing_of_mine", "b.py": "import numbers_of_mine.no"}
    written(tmp_path, files)
    for file, name in (("a.py", "nothing_of_mine"), ("b.py", "numbers_of_mine.no")):
        with pytest.raises(SteerError, match=f"fails to import: ModuleNotFoundError: No module named '{name}'"):
            load_module(str(tmp_path / file))


def test_rewards_and_methods_of_local_files(tmp_path, monkeypatch) -> None:
    reward = "from helper_of_mine import VALUE\ndef r(samples, prompts):\n    return samples.mean((1, 2, 3)) * VALUE"
    method = "import steer, helper_of_mine\nclass M(steer.Method):\n    name = 'm'"
    written(tmp_path, {**BESIDE, "mod.py": reward, "meth.py": method})
    monkeypatch.chdir(tmp_path)
    made = steer.Sampler(tiny_sd()).generate("a", reward="./mod.py:r", methods="./meth.py", steps=1, seed=1)
    assert made.items[0].reward > 0


WANDERING = """
import os
import steer
os.chdir("/")
class Wanderer(steer.Method):
    @steer.hookimpl
    def after_predict(self, state): os.chdir("/")
def reward(samples, prompts):
    os.chdir("/")
    return samples.mean(dim=(1, 2, 3))
"""


@pytest.mark.slow
def test_a_plugin_that_leaves_the_working_directory_leaves_the_output(steer: Steer, tiny: Path, place: Path) -> None:
    (place / "wandering.py").write_text(WANDERING)
    words = ["-m", tiny, "-p", "./wandering.py:Wanderer", "-r", "./wandering.py:reward", "--steps", 1, "--guidance", 1]
    (place / "p.txt").write_text("a red circle\n")
    for command in (["generate", "a red circle", "--baseline"], ["render", "p.txt"]):
        done = steer(*command, *words, "--out", command[0])
        assert done.code == 0, done.err
        assert Path.cwd() == place
        assert list((place / command[0]).rglob("*-000.png")), command
        assert str(place) not in done.out  # places are told as they were given
