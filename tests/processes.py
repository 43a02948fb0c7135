"""``steer`` as processes of their own that need not import torch each: they are forked from a server that has it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "processes", "steer.render.local", "steer.cli.watching",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
])  # fmt: skip


def start(arguments: list[object], folder: Path, output: str = "output.txt") -> ForkServerProcess:
    """Start ``steer`` with arguments in a folder; what it prints goes to a file there."""
    child = _CONTEXT.Process(target=_main, args=([str(argument) for argument in arguments], str(folder), output))
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


def _main(arguments: list[str], folder: str, output: str) -> None:
    import torch

    from steer.cli import main

    os.chdir(folder)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.argv = ["steer", *arguments]
    main()
