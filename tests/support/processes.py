"""``steer`` as processes of their own that need not import torch each: they are forked from a server that has it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

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


def launched(folder: Path, *arguments: object) -> None:
    """Run ``steer`` with arguments as two processes that train together, to their end."""
    words = [str(argument) for argument in arguments]
    _together(_main, lambda output: (words, str(folder), output, None), folder)


def together(folder: Path, function: Callable[[Path], None]) -> None:
    """Call a function with a folder in two processes that train together."""
    _together(_call, lambda output: (function, str(folder), output), folder)


def _together(target: Callable[..., None], arguments: Callable[[str], tuple[Any, ...]], folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
              "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    ranks = []
    for number in ("0", "1"):
        environment = {**shared, "RANK": number, "LOCAL_RANK": number}
        ranks.append(_CONTEXT.Process(target=target, args=(*arguments(f"{number}.txt"), environment)))
        ranks[-1].start()
    try:
        for rank in ranks:
            rank.join(timeout=300)
        assert [rank.exitcode for rank in ranks] == [0, 0], [(folder / f"{n}.txt").read_text() for n in range(2)]
    finally:
        for rank in ranks:
            rank.kill()  # one that waits for a dead one would wait forever


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
    from steer.cli.app import main

    _begin(folder, output, errors, environment)
    sys.argv = ["steer", *arguments]
    main()


def _call(function: Callable[[Path], None], folder: str, output: str, environment: dict[str, str]) -> None:
    _begin(folder, output, None, environment)
    function(Path(folder))


def _begin(folder: str, output: str, errors: str | None, environment: dict[str, str]) -> None:
    import torch

    os.chdir(folder)
    os.environ.update(environment)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(output, flags), 1)
    os.dup2(1 if errors is None else os.open(errors, flags | os.O_NOCTTY), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=environment.get("PYTHONIOENCODING"))  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
