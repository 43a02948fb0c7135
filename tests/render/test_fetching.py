"""What a plan fetches: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import Hub, as_hub, serve

from steer.cli.app import app
from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.sampling.sampler import Sampler

HPS = "HPS_v2.1_compressed.pt"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a damaged reward and a model."""
    files = {"xswu/HPSv2": {HPS: b"damaged"}, "someone/model": {"model_index.json": b"{}"}}
    with serve(Hub(files)) as server, as_hub(server, tmp_path / "cache", monkeypatch):
        yield server


@pytest.mark.slow
def test_a_dry_run_fetches_no_reward(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(place)
    (place / "p.txt").write_text("a red circle\n")
    words = ["render", "p.txt", "-m", "./tiny", "-p", "fk", "-r", "hps", "--steps", "2", "--dry-run"]
    app.main([*words, "--judge", "min(hps:v2.0,./rewards.py:brightness)"], standalone_mode=False)
    assert "1 prompt in 1 pack: 4 particles, 2 steps" in capsys.readouterr().out
    assert not hub.requests and not (place / "cache").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["-m", "someone/model"],
        ["-m", "./tiny", "--preview", "someone/preview"],
        ["-m", "./tiny", "--lora", "someone/lora"],
        ["-m", "text:someone/text"],
    ],
)
def test_a_dry_run_refuses_what_it_would_fetch(
    words: list[str], place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "p.txt").write_text("a red circle\n")
    with pytest.raises(SteerError, match=r"a dry run downloads nothing|someone/lora"):
        app.main(["render", "p.txt", *words, "--dry-run"], standalone_mode=False)
    assert not [request for request in hub.requests if "someone" in request[1]]
    assert not (place / "outputs").exists()


@pytest.mark.slow
def test_a_reward_is_fetched_before_the_first_step_and_a_damaged_one_is_told(tiny_pipe, hub: Hub) -> None:
    sampler = Sampler(tiny_pipe)
    with pytest.raises(SteerError, match="cannot be read"):
        sampler.generate([Prompt("a red circle")], methods="fk", reward="hps", steps=2)
    assert hub.ranges() and sampler.last_cost.nfe == 0
