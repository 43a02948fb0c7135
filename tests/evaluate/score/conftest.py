"""``steer score`` within the tests' process, with rewards that count their calls."""

import sys
from pathlib import Path

import pytest

REWARDS = """
calls = []
def bright(samples, prompts):
    calls.append(len(prompts))
    return samples.mean(dim=(1, 2, 3))
def words(samples, prompts):
    calls.append(len(prompts))
    return samples.new_tensor([float(len(p.split())) for p in prompts])
"""


@pytest.fixture
def steer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run ``steer score`` in this process: exit code, stdout, stderr."""
    from steer.cli.app import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards.py").write_text(REWARDS)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["steer", "score", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    return run
