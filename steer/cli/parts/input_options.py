"""Options of ``steer generate`` for the inputs that plugins register."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import click

from steer.cli.parts.option_groups import GroupedCommand, GroupedOption
from steer.errors import SteerError, unknown
from steer.registry.declarations import Input
from steer.registry.plugins import manager

META = "steer.prompts.inputs"


class WithInputs(GroupedCommand):
    """A command with an option ``--NAME`` for each registered input; :func:`typed_inputs` has what was typed."""

    @cached_property
    def _inputs(self) -> list[click.Parameter]:
        own = {option for parameter in self.params for option in parameter.opts}
        made: list[click.Parameter] = []
        for name, entry in manager().registry.entries["input"].items():
            if f"--{name}" in own:
                raise SteerError(
                    f"input {name!r} of plugin {entry.origin.plugin!r} has the name of an option of steer {self.name}; "
                    "uninstall the plugin or rename it"
                )
            made.append(_option(name, entry.load(), entry.summary))
        return made

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own options, then those of inputs."""
        own = super().get_params(ctx)
        return [*own[:-1], *self._inputs, *own[-1:]]  # --help stays the last


def typed_inputs() -> dict[str, list[str] | bool]:
    """Return the inputs typed in the present command."""
    found: dict[str, list[str] | bool] = click.get_current_context().meta.get(META, {})
    return found


def check_inputs(values: Mapping[str, Any]) -> dict[str, list[str] | bool]:
    """Return the inputs of a run file's table ``[inputs]``, one value or a list each.

    Raises:
        SteerError: for a name that no plugin registered, or a value of another type.
    """
    known = {name: entry.load() for name, entry in manager().registry.entries["input"].items()}
    found: dict[str, list[str] | bool] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown("input", name, known)
        listed = [value] if isinstance(value, str) else value
        good = isinstance(value, bool)
        if known[name].metavar:
            good = isinstance(listed, list) and bool(listed) and all(isinstance(one, str) for one in listed)
        if not good:
            expected = "a text or a list of texts" if known[name].metavar else "true or false"
            raise SteerError(f"config: inputs.{name} is {value!r}, expected {expected}")
        found[name] = listed
    return found


def _option(name: str, declared: Input, summary: str) -> click.Option:
    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            context.meta.setdefault(META, {})[name] = True if value is True else list(value)

    value = {"multiple": True, "metavar": declared.metavar} if declared.metavar else {"is_flag": True}
    return GroupedOption([f"--{name}"], group="Input", help=summary, expose_value=False, callback=keep, **value)
