"""The ``steer`` command: built-in and plugin subcommands, and how errors are reported."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from steer.cli.commands import BUILT_IN
from steer.cli.parts import streams
from steer.cli.parts.bars import DownloadBars
from steer.cli.parts.shared import log_option, one_line
from steer.errors import SteerError, nearest, shortened
from steer.models.downloads import fetching


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are called."""

    def __init__(self, *args: Any, commands_by_name: dict[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = commands_by_name or {}

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return each command's (target, summary) by its name."""
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
        """Find the command; a misspelled one gets a suggestion."""
        name = args[0]
        if name not in self.targets():
            known = self.list_commands(ctx)
            raise SteerError(f"unknown command {name!r}{nearest(name, known)} (known: {', '.join(known)})")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _sentence(self.targets()[name][1])) for name in self.list_commands(ctx)])


class App(LazyGroup):
    """The top group: built-in commands and those of plugins (``"train shapes"`` becomes a group ``train``)."""

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return built-in commands and the first words of plugins' commands."""
        found = dict(self.lazy)
        for verb, nouns in self._plugin_commands().items():
            summary = f"{verb} one of {', '.join(sorted(nouns))}" if len(nouns) > 1 else next(iter(nouns.values()))[1]
            found.setdefault(verb, ("", summary))
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
        return LazyGroup(name, commands_by_name=nouns, help=f"{name.capitalize()} with a command of a plugin.")

    @staticmethod
    def _plugin_commands() -> dict[str, dict[str, tuple[str, str]]]:
        from steer.registry.plugins import manager

        found: dict[str, dict[str, tuple[str, str]]] = {}
        with streams.reserved():  # plugins are imported here, whichever command is meant
            commands = manager().registry.commands
        for words, entry in commands.items():
            verb, _, noun = words.partition(" ")
            if verb in BUILT_IN:
                warnings.warn(
                    f"command {words!r} of plugin {entry.origin.plugin!r} is ignored: {verb!r} is steer's own",
                    stacklevel=2,
                )
                continue
            found.setdefault(verb, {})[noun] = (str(entry.target), entry.summary)
        return found


def _sentence(text: str) -> str:
    """Return a summary as a sentence; plugins write theirs in any form."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    with streams.reserved():
        command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


@click.command(cls=App, commands_by_name=BUILT_IN, context_settings={"help_option_names": ["-h", "--help"]})
@log_option
@click.version_option(package_name="steer-diffusion", prog_name="steer")
def app() -> None:
    """Sample and steer diffusion models with plugins."""


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2, a bug keeps its traceback.

    A stdout that is full or closed ends no command; see :mod:`steer.cli.parts.streams`.
    """
    streams.guard()
    code: int | str | None = 0
    try:
        _run()
    except SystemExit as stop:
        code = stop.code
    lost = streams.end()
    if code or lost:
        sys.exit(code or lost)


def _run() -> None:
    # without a handler, logging's last resort would print to stderr what belongs in --log FILE
    logging.getLogger("steer").addHandler(logging.NullHandler())
    # and a library that sets up the root logger would print every traceback
    logging.getLogger("steer").propagate = False
    # a log that cannot be written to must not print tracebacks of its own
    logging.raiseExceptions = False
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    # bars and notices of libraries would break ours; set before they are imported
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # what torchao's import gives rise to
    bars = DownloadBars()
    fetching.observer.set(bars)
    try:
        app.main(standalone_mode=False, prog_name="steer")
    except SteerError as error:
        logging.getLogger("steer").error("%s", error, exc_info=True)
        _fail(str(error))
    except NoArgsIsHelpError as error:  # a group without a command: print its help, which lists the commands
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(f"{error.format_message()}{where}")
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("steer: interrupted", err=True)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        logging.getLogger("steer").error("out of memory", exc_info=True)
        _fail(f"out of memory ({str(error)[:150]}); lower --size, --particles or --chunk, or try --vae-memory tiling")
    finally:
        bars.close()


def _out_of_memory(error: BaseException) -> bool:
    # on the CPU torch raises a plain RuntimeError; using torch's own class would import torch for every command
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


MESSAGE = 900
"""Characters of a message at most, about: what was typed or read may be of any length. A log has all of it."""


def _fail(message: str) -> None:
    click.echo(f"steer: error: {shortened(one_line(message), MESSAGE)}", err=True)
    sys.exit(2)


CHATTY = frozenset(
    {
        "accelerate",
        "diffusers",
        "huggingface_hub",
        "matplotlib",
        "numpy",
        "open_clip",
        "peft",
        "PIL",
        "pydantic",
        "timm",
        "torch",
        "torchvision",
        "transformers",
    }
)
"""Libraries whose warnings are for programmers: these go to the log. Warnings of steer and of plugins are shown."""


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any) -> None:
    parts = Path(filename).parts
    library = parts[parts.index("site-packages") + 1] if "site-packages" in parts else ""
    if category is UserWarning and library not in CHATTY:
        click.echo(f"steer: warning: {shortened(one_line(str(message)), MESSAGE)}", err=True)
    else:
        logging.getLogger("steer").debug("%s: %s", category.__name__, message)
