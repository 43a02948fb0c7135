"""``steer`` as processes of their own that need not import torch each: they are forked from a server that has it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "steer.render.local", "steer.cli.parts.render_progress", "rich.progress", "matplotlib.figure",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
])  # fmt: skip


def start(
    arguments: list[object],
    folder: Path,
    output: str = "output.txt",
    errors: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """Start ``steer`` with arguments in a folder.

    Args:
        arguments: of the command line.
        folder: to work in.
        output: the file there that what it prints goes to.
        errors: that of its stderr, or a terminal's name; the same by default.
        environment: set before it begins; libraries that are loaded already do not see it, but the streams do.
    """
    words = [str(argument) for argument in arguments]
    child = _CONTEXT.Process(target=_main, args=(words, str(folder), output, errors, dict(environment or {})))
    child.start()
    return child


def finished(folder: Path, *arguments: object, code: int = 0) -> str:
    """Run ``steer`` with arguments in a folder to its end; check its exit code and return what it printed."""
    child = start(list(arguments), folder)
    child.join(timeout=300)
    text = (folder / "output.txt").read_text()
    assert child.exitcode == code, text
    assert "Traceback" not in text
    return text


def importing(folder: Path, names: Sequence[str]) -> int | None:
    """Import modules of a folder in a process; return its exit code."""
    child = _CONTEXT.Process(target=_import, args=(str(folder), names))
    child.start()
    child.join(timeout=300)
    return child.exitcode


def _import(folder: str, names: Sequence[str]) -> None:
    sys.path.insert(0, folder)
    for name in names:
        importlib.import_module(name)


def _main(arguments: list[str], folder: str, output: str, errors: str | None, environment: dict[str, str]) -> None:
    import torch

    from steer.cli.app import main

    os.chdir(folder)
    os.environ.update(environment)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(output, flags), 1)
    os.dup2(1 if errors is None else os.open(errors, flags | os.O_NOCTTY), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=environment.get("PYTHONIOENCODING"))  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.argv = ["steer", *arguments]
    main()
