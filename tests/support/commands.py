"""The command line in this process (fast) and as a real process (slow: every one imports torch)."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REWARDS = """
import torch

def brightness(samples, prompts): return samples.mean(dim=(1, 2, 3))
def nan(samples, prompts): return samples.mean(dim=(1, 2, 3)) * float("nan")
def wrong_length(samples, prompts): return torch.zeros(len(prompts) + 1)
def raises(samples, prompts): raise KeyError("kaput\\nsecond line")
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def error(self) -> str:
        """Return the one line of a user's mistake, after checking that it is nothing else."""
        assert self.code == 2, self
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("steer: error: "), self.err
        return lines[0].removeprefix("steer: error: ")


Steer = Callable[..., Done]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pipeline in diffusers format; never change it."""
    from support.tiny import tiny_sd

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a file of rewards; no configuration from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEER_MODEL", raising=False)
    (tmp_path / "rewards.py").write_text(REWARDS)
    return tmp_path


@pytest.fixture
def steer(place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Steer]:
    """Run ``steer`` with arguments in this process."""
    from steer.cli.app import main

    logger = logging.getLogger("steer")
    handlers, level = list(logger.handlers), logger.level

    def run(*arguments: object, stdin: str | bytes = "") -> Done:
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "argv", ["steer", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        capfd.readouterr()
        code = 0
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Done(code, *capfd.readouterr())

    yield run
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:], logger.level = handlers, level


@pytest.fixture
def process(place: Path) -> Steer:
    """Run ``steer`` with arguments as a process of its own."""

    def run(*arguments: object, stdin: str = "", **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "steer", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **environment},
            timeout=300,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
