"""Documentation that must not fall behind the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch

import steer
from steer.registry import registration
from steer.registry.local_files import load_module
from steer.registry.plugins import manager
from steer.sampling import hooks as hookspecs
from steer.sampling.methods_by_name import find_method

ROOT = Path(__file__).resolve().parents[1]
HOOKS = ROOT / "docs" / "hooks.md"
SPECIFICATIONS = {
    name: value
    for home in (registration, hookspecs)
    for name, value in vars(home).items()
    if hasattr(value, f"{registration.PROJECT}_spec")
}


@pytest.mark.parametrize("name", ["steer_register", *registration.RUN_HOOKS])
def test_every_hook_is_documented_with_its_signature(name: str) -> None:
    arguments = ", ".join(inspect.signature(SPECIFICATIONS[name]).parameters)
    assert f"`{name}({arguments})`" in HOOKS.read_text()


def test_run_hooks_lists_every_specification() -> None:
    assert set(SPECIFICATIONS) == {"steer_register", *registration.RUN_HOOKS}


def _code_block(heading: str) -> str:
    text = HOOKS.read_text().split(heading, 1)[1]
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match
    return match.group(1)


def test_the_documented_method_loads_and_validates_its_option(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(_code_block("## A method in one file"))
    cls = find_method(str(file), manager())
    assert issubclass(cls, steer.Method)
    assert cls.Options().strength == 0.05


def test_the_documented_reward_scores(tmp_path: Path) -> None:
    file = tmp_path / "bright.py"
    file.write_text(_code_block("## A reward in one function"))
    scores = load_module(str(file)).brightness(torch.full((2, 3, 4, 4), 0.25), ["a", "b"])
    assert torch.equal(scores, torch.full((2,), 0.25))


def test_every_family_and_scheduler_is_documented() -> None:
    from steer.processes.schedulers import SCHEDULERS

    text = (ROOT / "docs" / "models.md").read_text()
    missing = [name for name in (*manager().registry.backbones, *SCHEDULERS) if f"`{name}`" not in text]
    assert not missing


def test_the_run_file_of_the_readme_is_one(tmp_path: Path) -> None:
    from steer.cli.generate import RUN_KEYS
    from steer.cli.parts.config import read_toml
    from steer.cli.render import RENDER_KEYS

    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "run.toml").write_text(block)
    for keys in (RUN_KEYS, RENDER_KEYS):
        assert read_toml(tmp_path / "run.toml", keys)["options"] == {"fk": {"lambda": 5}}
