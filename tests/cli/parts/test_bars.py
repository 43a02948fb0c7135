"""What is shown while weights are fetched from a hub: a bar per file on a terminal, a line per file elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.hub_server import Hub, as_hub, serve

from steer import SteerError
from steer.cli.parts import bars as parts
from steer.cli.parts.bars import Bar, DownloadBars
from steer.models.downloads import fetching, weights
from steer.registry.declarations import Repository, Weights

CONTENT = np.random.default_rng(0).bytes(300_000)
WANTED = Weights("org/judge", "judge.pt", size=300_000)
SHOWN, ERASED = "\x1b[?25l", "\x1b[2K"
"""What a terminal is told when a bar begins, and when its line is taken back."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's attempts
    two = {"config.json": b"{}", "model.safetensors": CONTENT}
    files = {"org/judge": {"judge.pt": CONTENT}, "org/two": two}
    with serve(Hub(files)) as server, as_hub(server, tmp_path / "cache", monkeypatch):
        yield server


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "live_terminal", lambda: True)
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "100"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)


@contextmanager
def observed(bars: DownloadBars) -> Iterator[None]:
    token = fetching.observer.set(bars)
    try:
        yield
    finally:
        fetching.observer.reset(token)


def plain(text: str) -> str:
    """Return what a terminal shows, without colors and movements of the cursor."""
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text)


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_file_has_a_bar_that_is_taken_back(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with observed(DownloadBars()):
        weights.fetch(WANTED)
    said = capsys.readouterr().err
    assert re.search(r"org/judge: judge\.pt ━+ 300\.0/300\.0 kB", plain(said))
    assert said.index(SHOWN) < said.rindex(ERASED)


@pytest.mark.usefixtures("terminal")
def test_every_file_of_a_repository_has_its_own_bar(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with observed(DownloadBars()):
        weights.fetch(Repository("org/two"))
    said = plain(capsys.readouterr().err)
    assert re.search(r"org/two: config\.json ━+ 2/2 bytes", said)
    assert re.search(r"org/two: model\.safetensors ━+ 300\.0/300\.0 kB", said)


@pytest.mark.usefixtures("terminal")
def test_a_bar_goes_on_where_the_download_broke_off(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.cut = [100_000, *[0] * 20]
    bars = DownloadBars()
    with observed(bars), pytest.raises(SteerError, match=r"broke off after 0\.1 of 0\.3 MB"):
        weights.fetch(WANTED)
    bars.close()  # as the command does at its end
    assert re.search(r"━ 100\.0/300\.0 kB", plain(capsys.readouterr().err))
    hub.cut, begun = [], []

    class Noting(DownloadBars):
        def __call__(self, name: str, here: int, total: int | None) -> None:
            begun.append(here)
            super().__call__(name, here, total)

    with observed(Noting()):
        weights.fetch(WANTED)
    assert begun[0] > 100_000 and begun[-1] == 300_000
    assert re.search(r"━ 300\.0/300\.0 kB", plain(capsys.readouterr().err))


@pytest.mark.usefixtures("terminal")
def test_beside_another_bar_the_download_is_a_note_in_it(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with observed(DownloadBars()), Bar("scoring", total=3) as bar:
        bar.advance()
        weights.fetch(WANTED)
    said = capsys.readouterr().err
    assert re.search(r"scoring [━╺╸]+ fetching org/judge: judge\.pt 100% of 300\.0 kB", plain(said))
    assert said.count(SHOWN) == 1  # two live displays would tear each other


def test_elsewhere_a_file_has_one_line(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with observed(DownloadBars()):
        weights.fetch(Repository("org/two"))
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == [
        "fetching org/two: config.json (2 bytes)",
        "fetching org/two: model.safetensors (300.0 kB)",
    ]
