"""Plugins: found by entry point or file; a broken one says why and harms nothing else."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import steer
from steer import SteerError, hookimpl
from steer.registry.local_files import load_module
from steer.registry.plugins import Plugins, manager
from steer.registry.registry import Origin
from steer.rewards.by_name import make_reward
from steer.sampling.methods_by_name import find_method, make_methods


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


def install(folder: Path, name: str, source: str) -> None:
    """Put a distribution with one entry point of group ``steer`` into a folder, as pip would."""
    write(folder, f"{name}.py", source)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    write(info, "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    write(info, "entry_points.txt", f"[steer]\n{name} = {name}\n")


GOOD = """
    from steer import hookimpl

    @hookimpl
    def steer_register(registry):
        registry.reward("{reward}", "{module}:score", summary="a reward")

    def score(samples, prompts):
        return samples.mean((1, 2, 3))
"""


def test_a_broken_distribution_is_reported_and_harms_no_other(tmp_path, monkeypatch) -> None:
    install(tmp_path, "aa_broken_import", "import a_module_that_is_not_there")
    install(tmp_path, "bb_clash", GOOD.format(reward="mine", module="bb_clash"))
    install(tmp_path, "cc_clash", GOOD.format(reward="mine", module="cc_clash"))
    install(tmp_path, "dd_fine", GOOD.format(reward="fine", module="dd_fine"))
    install(tmp_path, "ee_late", GOOD.format(reward="late", module="not_there_either"))
    install(tmp_path, "ff_raises", "raise SystemError('boom\\nboom')")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins()
    plugins.load_entry_points()
    broken = {item.origin.plugin: item.reason for item in plugins.broken}
    assert "a_module_that_is_not_there" in broken["aa_broken_import"]
    assert "'bb_clash' and 'cc_clash'" in broken["cc_clash"]
    assert broken["ff_raises"] == "SystemError: boom boom"
    assert {"fine", "mine", "late"} <= set(plugins.registry.rewards)
    assert "fk" in plugins.registry.methods
    fine = plugins.registry.rewards["fine"]
    assert fine.health == "ok"
    assert fine.origin.version == "1.2"
    assert plugins.registry.rewards["late"].health.startswith("broken: No module named")
    with pytest.raises(SteerError, match="reward 'late' of plugin 'ee_late' is broken: ModuleNotFoundError"):
        plugins.registry.rewards["late"].load()


def test_a_plugin_registers_all_or_nothing() -> None:
    plugins = Plugins()
    plugins.registry.reward("taken", lambda s, p: None)

    @hookimpl
    def steer_register(registry):
        registry.reward("new", lambda s, p: None)
        registry.reward("taken", lambda s, p: None)

    with pytest.raises(SteerError, match=r"reward 'taken' is provided by two plugins: 'steer' and 'second'"):
        plugins.add(SimpleNamespace(steer_register=steer_register), Origin("second", "", ""))
    assert set(plugins.registry.rewards) == {"taken"}


def test_a_misspelled_hook_is_an_error() -> None:
    class Mine(steer.Method):
        name = "mine"

        @hookimpl
        def after_predicct(self, state):
            pass

    with pytest.raises(SteerError, match=r"'mine'.*after_predicct"):
        make_run([Mine()])


def test_a_function_named_like_a_hook_must_be_marked() -> None:
    class Mine(steer.Method):
        name = "mine"

        def after_step(self, state):
            pass

    with pytest.raises(SteerError, match=r"'mine': after_step\(\) is named like a hook but not marked"):
        make_run([Mine()])


def test_a_wrong_signature_names_the_plugin() -> None:
    class Mine(steer.Method):
        name = "mine"

        @hookimpl
        def after_step(self, state, weather):
            pass

    with pytest.raises(SteerError, match=r"'mine'.*weather"):
        make_run([Mine()])


def make_run(methods):
    from diffusers import DDIMScheduler
    from support.linear_gaussian import LinearGaussian

    from steer.prompts.prompt import Prompt
    from steer.sampling import hooks

    return hooks.make_run(LinearGaussian(DDIMScheduler(clip_sample=False)), [Prompt("a")], methods=methods)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(SteerError, match="unknown method 'fkk' — did you mean 'fk'"):
        find_method("fkk", manager())


METHOD = """
    import steer

    class Mine(steer.Method):
        name = "mine"

        class Options(steer.Options):
            strength: float = steer.Field(0.5, ge=0)
"""


def test_a_method_in_a_local_file(tmp_path) -> None:
    file = write(tmp_path, "mine.py", METHOD)
    (method,) = make_methods([str(file)], {"mine": {"strength": "2"}}, manager())
    assert method.name == "mine"
    assert method.options.strength == 2
    assert find_method(f"{file}:Mine", manager()) is type(method)
    with pytest.raises(SteerError, match=r"unknown name in .* 'Mien' — did you mean 'Mine'"):
        find_method(f"{file}:Mien", manager())


def test_names_of_annotations_are_known_in_a_local_file(tmp_path) -> None:
    file = write(
        tmp_path,
        "mine.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass, field
        from typing import Literal
        import steer

        @dataclass
        class Seen:
            rows: list[int] = field(default_factory=list)

        class Choice(steer.Options):
            side: Literal["left", "right"] = "left"

        class Mine(steer.Method):
            name = "mine"
            Options = Choice
    """,
    )
    (method,) = make_methods([str(file)], {"mine": {"side": "right"}}, manager())
    assert method.options.side == "right"


def test_a_run_has_its_own_copy_of_a_method_that_was_given_ready_made() -> None:
    class Mine(steer.Method):
        name = "mine"

    mine = Mine()
    (first,), (second,) = (make_methods([mine], {}, manager()) for _ in range(2))
    first.noted = 1
    assert not hasattr(second, "noted") and not hasattr(mine, "noted") and isinstance(second, Mine)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (("train", "train mine"), "clash; rename one"),
        (("train mine", "train"), "clash; rename one"),
    ],
)
def test_a_command_that_would_hide_another_is_an_error(theirs, message) -> None:
    plugins = Plugins()

    @hookimpl
    def steer_register(registry):
        registry.command("train other", "mine:other")
        for name in theirs:
            registry.command(name, "mine:command")

    with pytest.raises(SteerError, match=message):
        plugins.add(SimpleNamespace(steer_register=steer_register), Origin("mine", "", ""))
    assert not plugins.registry.commands


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("x = (", "fails to import: SyntaxError"),
        ("x = 1", "expected one steer.Method, found none"),
        (
            "import steer\n@steer.hookimpl\ndef steer_register(registry): registry.method('mine', print)",
            "expected a steer.Method subclass",
        ),
        ("import steer\nclass A(steer.Method): pass\nclass B(steer.Method): pass", "found A, B; name one as"),
    ],
)
def test_a_local_file_that_is_no_method(tmp_path, text, message) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SteerError, match=message):
        find_method(str(file), manager())


def test_a_reward_in_a_local_file(tmp_path) -> None:
    file = write(tmp_path, "mine.py", "def bright(samples, prompts):\n    return samples.mean((1, 2, 3))\n")
    scorer = make_reward([f"{file}:bright:2"], {}, manager(), torch.device("cpu"))
    assert scorer(torch.full((2, 3, 4, 4), 0.25), ["a", "b"]).tolist() == [0.5, 0.5]
    with pytest.raises(SteerError, match="'brihgt' — did you mean 'bright'"):
        make_reward([f"{file}:brihgt"], {}, manager(), torch.device("cpu"))


def test_two_files_of_one_name_are_two_modules(tmp_path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "mine.py", f"VALUE = {value}")
    assert [load_module(str(tmp_path / folder / "mine.py")).VALUE for folder in "ab"] == [1, 2]
    assert "mine" not in sys.modules
