"""The top of the command line: what plugins may add to it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from steer import hookimpl
from steer.cli.app import app
from steer.registry import plugins as installed
from steer.registry.plugins import Plugins
from steer.registry.registry import Origin


@pytest.mark.parametrize("words", ["score", "check image"])
def test_a_command_that_would_hide_a_built_in_one_is_ignored_with_a_warning(words, monkeypatch) -> None:
    plugins = Plugins()

    @hookimpl
    def steer_register(registry):
        registry.command(words, "mine:command")
        registry.command("mine", "mine:command")

    plugins.add(SimpleNamespace(steer_register=steer_register), Origin("mine", "", ""))
    monkeypatch.setattr(installed, "manager", lambda: plugins)
    with pytest.warns(UserWarning, match=f"command '{words}' of plugin 'mine' is ignored"):
        targets = app.targets()
    assert targets[words.partition(" ")[0]][0].startswith("steer.cli.")
    assert "mine" in targets
