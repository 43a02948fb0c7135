"""The ``steer`` command: its subcommands, those of plugins included, and how errors end."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from steer.errors import SteerError, nearest

BUILT_IN = {
    "doctor": ("steer.cli.doctor:doctor", "Check the installation and what this machine can run."),
    "generate": ("steer.cli.generate:generate", "Render prompts, steered or not."),
    "plugins": ("steer.cli.plugins:plugins", "List plugins, or show one's options."),
    "replay": ("steer.cli.replay:replay", "Make an image again from the recipe in its PNG."),
}
"""Subcommands: where they are (imported at first use) and what they do."""


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are called."""

    def __init__(self, *args: Any, commands_by_name: dict[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = commands_by_name or {}

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return name to (target, summary)."""
        return self.lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, sorted."""
        return sorted(self.targets())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in self.targets():
            return None
        return _load(self.targets()[name][0])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one gets a suggestion."""
        name = args[0]
        if name not in self.targets():
            known = self.list_commands(ctx)
            raise SteerError(f"unknown command {name!r}{nearest(name, known)} (known: {', '.join(known)})")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.targets()[name][1]) for name in self.list_commands(ctx)])


class App(LazyGroup):
    """The top group: built-in commands and those of plugins (``"train shapes"`` becomes a group ``train``)."""

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return built-in commands and the first words of plugins' commands."""
        found = dict(self.lazy)
        for words, nouns in self._plugin_commands().items():
            found.setdefault(words, ("", ", ".join(f"{words} {noun}" if noun else words for noun in sorted(nouns))))
        return found

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command, or build the group of a plugin's ``"verb noun"`` commands."""
        if name in self.lazy:
            return super().get_command(ctx, name)
        nouns = self._plugin_commands().get(name)
        if nouns is None:
            return None
        if "" in nouns:
            return _load(nouns[""][0])
        return LazyGroup(name, commands_by_name=nouns, help=f"{name.capitalize()} what plugins bring recipes for.")

    @staticmethod
    def _plugin_commands() -> dict[str, dict[str, tuple[str, str]]]:
        from steer.plugins import manager

        found: dict[str, dict[str, tuple[str, str]]] = {}
        for words, entry in manager().registry.commands.items():
            verb, _, noun = words.partition(" ")
            found.setdefault(verb, {})[noun] = (str(entry.target), entry.summary)
        return found


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


@click.command(cls=App, commands_by_name=BUILT_IN, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Write a log with tracebacks to FILE.")
@click.version_option(package_name="steer-diffusion", prog_name="steer")
def app(log: Path | None) -> None:
    """Sample and steer diffusion models with plugins."""
    if log is not None:
        try:
            handler = logging.FileHandler(log)
        except OSError as error:
            raise SteerError(f"log file {log} cannot be written to ({error.strerror})") from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("steer")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2, a bug keeps its traceback."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    # bars and notices of libraries would break ours; set before they are imported
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app.main(standalone_mode=False, prog_name="steer")
    except SteerError as error:
        logging.getLogger("steer").error("%s", error, exc_info=True)
        _fail(str(error))
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(f"{error.format_message()}{where}")
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("steer: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `steer … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(message: str) -> None:
    click.echo(f"steer: error: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, UserWarning) and category.__module__ == "builtins":
        click.echo(f"steer: warning: {' '.join(str(message).split())}", err=True)
    else:
        logging.getLogger("steer").debug("%s: %s", category.__name__, message)
