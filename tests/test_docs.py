"""Documentation that must not fall behind the code."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
import torch

import steer
from steer.cli.app import app
from steer.registry import registration
from steer.registry.local_files import load_module
from steer.registry.plugins import manager
from steer.sampling import hooks as hookspecs
from steer.sampling.methods_by_name import find_method

ROOT = Path(__file__).resolve().parents[1]
HOOKS = ROOT / "docs" / "hooks.md"
PAGES = [
    path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")) if path.name not in ("api.md", "commands.md")
]
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


def test_the_table_of_pipelines_is_that_of_the_tests() -> None:
    made = load_module(str(ROOT / "docs" / "make_pipelines.py"))
    text = made.PAGE.read_text(encoding="utf-8")
    assert text == made.page(text), "run: PYTHONPATH=tests python docs/make_pipelines.py"


def test_the_run_file_of_the_docs_is_one(tmp_path: Path) -> None:
    from steer.cli.generate import RUN_KEYS
    from steer.cli.parts.config import read_toml
    from steer.cli.render import RENDER_KEYS

    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "running.md").read_text(), re.DOTALL)
    (tmp_path / "run.toml").write_text(block)
    for keys in (RUN_KEYS, RENDER_KEYS):
        assert read_toml(tmp_path / "run.toml", keys)["options"] == {"fk": {"lambda": 5}}


def _command_lines() -> Iterator[tuple[str, str]]:
    """Yield (page, command line) of every call of steer in a block of shell commands."""
    for path in PAGES:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                line = line.removeprefix("$ ").strip()
                if line.startswith("steer "):
                    yield path.name, line


@pytest.mark.parametrize(("page", "line"), _command_lines())
def test_every_command_line_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = app
    context = click.Context(app, **app.context_settings)
    while isinstance(command, click.Group) and words and command.get_command(context, words[0]):
        command = command.get_command(context, words.pop(0))
    assert command is not app, line
    known = {
        option
        for parameter in command.get_params(click.Context(command, **app.context_settings))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    assert [option for option in given if option not in known] == []
    for before, word in pairwise(words):
        if before == "-o" and "." in word.partition("=")[0]:
            plugin, option = word.partition("=")[0].split(".", 1)
            assert _has_option(plugin, option), word


def _has_option(plugin: str, option: str) -> bool:
    registry = manager().registry
    entries = [kind[plugin] for kind in (registry.methods, registry.rewards) if plugin in kind]
    for entry in entries:
        fields = entry.load().Options.model_fields
        if option in {field.alias or name for name, field in fields.items()}:
            return True
    return not entries  # of a plugin that the page tells to write


@pytest.mark.slow
def test_the_page_of_commands_is_what_their_help_says() -> None:
    made = load_module(str(ROOT / "docs" / "make_commands.py")).page()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made, "run: python docs/make_commands.py"


def test_links_and_pictures_of_the_top_pages_are_there() -> None:  # those within docs/ are checked as the site is built
    for path in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{path.name}: {target}"


def test_every_page_is_in_the_site() -> None:
    import tomllib

    site = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    assert tomllib.loads(site)
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f'"{path.name}"' not in site] == []


def test_the_reward_and_the_script_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward, script = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_reward.py").write_text(reward)
    monkeypatch.chdir(tmp_path)
    flat, striped = torch.zeros(1, 3, 4, 4), torch.tensor([0.0, 1.0]).repeat(1, 3, 4, 2)
    scores = load_module("./my_reward.py").sharpness(torch.cat([flat, striped]), ["", ""])
    assert scores.tolist() == [0.0, 1.0]
    compile(script, "README.md", "exec")
