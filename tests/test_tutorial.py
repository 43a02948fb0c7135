"""docs/writing-a-plugin.md, extending.md and rewards.md: all code runs, every reward and expression is true."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from steer import Sampler
from steer.registry.local_files import load_module
from steer.registry.plugins import Plugins, manager
from steer.registry.registry import Origin
from steer.rewards.by_name import make_reward
from steer.rewards.expressions import parse_expression
from steer.testing import check_reward

DOCS = Path(__file__).resolve().parents[1] / "docs"
TUTORIAL = (DOCS / "writing-a-plugin.md").read_text(encoding="utf-8")
REWARDS = (DOCS / "rewards.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL, re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tutorial's files, which can be imported from there."""
    for block in blocks("python"):
        name = re.match(r"# file: (\S+)\n", block)
        assert name, block
        (tmp_path / name[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module in ("my_rewards", "my_color", "my_method", "steer_bright_sky"):
        sys.modules.pop(module, None)


@pytest.mark.slow
def test_the_function_and_its_file_reference(place: Path) -> None:
    check_reward(load_module("./my_rewards.py").brightness).require()


@pytest.mark.slow
def test_the_class_its_options_scale_and_test(place: Path) -> None:
    plugins = Plugins()
    plugins.registry.reward("color", "my_color:Color")
    made = make_reward(["color@z"], {"color": {"channel": "green"}}, plugins, torch.device("cpu"))
    green = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert made(green, ["x"]).item() == pytest.approx((2 / 3) / 0.1)
    load_module("./test_my_color.py").test_contract()


def test_the_method_changes_the_image(place: Path, tiny_pipe) -> None:
    sampler = Sampler(tiny_pipe, device="cpu")
    run = {"steps": 2, "particles": 1, "seed": 0}
    plain = sampler.generate("a red circle", **run).images[0]
    pulled = sampler.generate("a red circle", methods="./my_method.py", options={"pull": {"strength": 0.5}}, **run)
    assert pulled.images[0].tobytes() != plain.tobytes()


def test_the_family_and_its_process_are_steered(tmp_path: Path) -> None:
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# file: my_colors.py\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_colors.py").write_text(code)
    plugins = Plugins()
    plugins.load_entry_points()
    plugins.registry.loader("colors", load_module(str(tmp_path / "my_colors.py")).from_name)
    sampler = Sampler("colors:any", plugins=plugins)
    run = {"particles": 4, "seed": 0, "reward": lambda samples, prompts: samples[:, 0].mean(dim=(1, 2))}
    plain, fk = (sampler.generate("red", methods=methods, **run).items[0] for methods in ((), ("fk",)))
    assert plain.mean_reward > 0.8
    assert any(event["kind"] == "fk" for event in fk.trace["events"])


def test_the_package_registers(place: Path) -> None:
    import importlib

    plugins = Plugins()
    plugins.add(importlib.import_module("steer_bright_sky"), Origin("bright-sky", "", "docs"))
    assert set(plugins.registry.rewards) == {"bright-sky"}


def test_every_installed_reward_is_in_the_table() -> None:
    for name, entry in manager().registry.rewards.items():
        if entry.origin.place.startswith("steer-diffusion"):
            assert f"| `{name}` |" in REWARDS


def test_every_expression_in_the_docs_can_be_read() -> None:
    table = REWARDS.split("## Putting rewards together")[1].split("All numbers")[0]
    written = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(written) >= 8
    for expression in written:
        assert parse_expression(expression)
