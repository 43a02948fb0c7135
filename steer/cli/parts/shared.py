"""``--log``, quieting libraries, and the check for a live terminal, for all commands."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from steer.errors import SteerError
from steer.errors import one_line as one_line


def _open_log(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SteerError(f"log file {path} cannot be written to ({error.strerror}); choose another --log") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("steer")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    context.call_on_close(handler.flush)


log_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_open_log,
    help="Write a log with tracebacks to FILE.",
)
"""``--log FILE``: accepted before and after a command's name."""


def quiet_libraries() -> None:
    """Turn off the bars and notices of the model libraries; they would break steer's own bars."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def live_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line; a dumb terminal cannot."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def count(number: float, what: str) -> str:
    """Return a number of things, as in ``"1 image"`` and ``"2 images"``."""
    return f"{number} {what}" + ("" if number == 1 else "s")
