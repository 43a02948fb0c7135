"""Options for inputs besides the text: those of pipelines' calls, and those that plugins register."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from steer.cli.parts.option_groups import Decorator, GroupedCommand, GroupedOption, option
from steer.cli.parts.sampling_options import INPUT
from steer.errors import SteerError, unknown
from steer.prompts.prompt import Prompt
from steer.registry.declarations import Input
from steer.registry.plugins import manager

if TYPE_CHECKING:
    from steer.sampling.request import SamplingRequest

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


call_input_option: Decorator = option(
    "--input",
    "input",
    multiple=True,
    metavar="NAME=VALUE",
    group=INPUT,
    help="Input of the pipeline's call, as in image=photo.png; a prompt's own has priority; repeatable.",
)


def with_call_inputs(prompts: list[Prompt], values: Mapping[str, Any], request: SamplingRequest) -> list[Prompt]:
    """Return prompts with the inputs of the call of the request's pipeline, those of ``--input`` and their own.

    Raises:
        SteerError: for an input that the pipeline does not take, or that cannot be used.
    """
    typed = typed_call_inputs(values.get("input", ()))
    if not typed and not any(prompt.metadata for prompt in prompts):
        return prompts

    from steer.models.find import call_inputs
    from steer.models.stock.inputs import with_inputs

    pipeline, taken = call_inputs(request.model, manager(), request.model_options)
    return with_inputs(prompts, taken, typed, pipeline)


def typed_call_inputs(texts: Iterable[str]) -> dict[str, Any]:
    """Return inputs typed as ``NAME=VALUE``; a name that is typed twice gives a list.

    Raises:
        SteerError: for a text of another form.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise SteerError(f"--input {text[:60]!r}: expected NAME=VALUE, such as image=photo.png")
        if name in found:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        else:
            found[name] = value
    return found


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
