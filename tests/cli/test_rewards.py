"""``steer rewards``: agreement with the truth by category, time and memory, of what is on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import Steer


@pytest.mark.thorough
def test_rewards_are_compared_and_those_that_are_not_here_skipped(process: Steer, place: Path) -> None:
    (place / "truth.py").write_text(
        "from steer_shapes.reward import ShapesReward\n"
        "def echo(samples, prompts): return 2 * ShapesReward()(samples, prompts) - 1\n"
        "def dull(samples, prompts): return samples.new_zeros(len(prompts))\n"
    )
    done = process(
        "rewards", "truth.py:echo", "truth.py:dull", "clip", "hps", "--json", "--device", "cpu",
        HF_HUB_CACHE=str(place / "cache"),
    )  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    echo, dull, clip, hps = data["rewards"]
    assert data["truth"] == "shapes" and data["samples"] > 20
    assert {"all", "color", "spatial"} <= echo["correlation"].keys()
    assert all(value is None or value == pytest.approx(1) for value in echo["correlation"].values())
    assert echo["correlation"]["all"] == pytest.approx(1)  # another scale, the same ranks
    assert set(dull["correlation"].values()) == {None}  # nothing to rank by
    assert 0.3 < clip["correlation"]["all"] < 1
    assert all(row["batch_ms"] > 0 and row["memory_mb"] >= 0 for row in (echo, dull, clip))
    assert hps["skipped"].startswith("hps needs HPS_v2.1_compressed.pt of xswu/HPSv2 (2.0 GB)")


def test_a_misspelled_reward_is_a_mistake_and_not_skipped(steer: Steer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # the command sets them; undone afterward
        monkeypatch.setenv(name, "1")
    assert "did you mean 'clip'" in steer("rewards", "min(clpi,jpeg)").error()
