"""Options that help lists in groups, and their keys in run files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from steer.settings.run_settings import Setting

OTHER = "Other"
"""The group of options without one, such as ``--help``."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class GroupedOption(click.Option):
    """An option with the group that help lists it in, and whether run files may hold its value."""

    def __init__(self, *arguments: Any, group: str, in_file: bool = True, **keywords: Any) -> None:
        """Args: group: title in help; in_file: whether a run file has a key for it. For others see click."""
        super().__init__(*arguments, **keywords)
        self.group, self.in_file = group, in_file


class GroupedCommand(click.Command):
    """A command whose help lists options group by group, in the order in which groups first appear."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", OTHER), []).append(record)
        groups[OTHER] = groups.pop(OTHER)  # --help is in it; it comes last
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def option(*flags: str, group: str, **keywords: Any) -> Decorator:
    """Declare an option in a group; see :class:`GroupedOption`."""
    return click.option(*flags, cls=GroupedOption, group=group, **keywords)


def setting_option(setting: Setting) -> Decorator:
    """Declare the option of a setting of runs."""
    kind = float if float in setting.kind else setting.kind[0]
    help_text = setting.meaning[0].upper() + setting.meaning[1:] + ("" if setting.meaning.endswith("…") else ".")
    return option(*setting.flags, type=kind, metavar=setting.metavar, help=help_text, group=setting.group)


def options(*declared: Decorator) -> Decorator:
    """Return one decorator that gives a command several options, listed in the order given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(declared):
            command = one(command)
        return command

    return decorate


def run_file_keys(parameters: Iterable[click.Parameter]) -> dict[str, Any]:
    """Return the keys that a command's options have in run files, each with the type of its value."""
    return {
        str(parameter.name): _type_in_file(parameter)
        for parameter in parameters
        if isinstance(parameter, GroupedOption) and parameter.in_file
    }


def _type_in_file(parameter: click.Option) -> Any:
    if parameter.multiple:
        return list
    if parameter.is_flag:
        return bool
    if isinstance(parameter.type, click.types.IntParamType):
        return int
    return (int, float) if isinstance(parameter.type, click.types.FloatParamType) else str
