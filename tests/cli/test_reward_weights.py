"""Rewards with weights of their own on the command line: not here, and from a local file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import Steer
from support.tiny_clips import hps_folder


def test_without_weights_the_command_ends_with_one_line(process: Steer, place: Path) -> None:
    done = process(
        "generate", "a red circle", "-m", "shapes", "--plugin", "fk", "--reward", "hps",
        HF_HUB_CACHE=str(place / "cache"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.error() == (
        "hps needs HPS_v2.1_compressed.pt of xswu/HPSv2 (2.0 GB), which is not in the hub's cache, and the hub cannot "
        "be reached: run `steer download hps` on a machine that can, or copy it here and set -o hps.weights=PATH"
    )
    assert not (place / "outputs").exists()


@pytest.mark.slow  # figures of traces
def test_with_a_local_file_it_steers_and_scores(steer: Steer, tiny: Path, place: Path) -> None:
    option = f"hps.weights={hps_folder(place / 'hps') / 'HPS_v2.1_compressed.pt'}"
    done = steer(
        "generate", "a red circle", "-m", tiny, "--plugin", "fk", "--reward", "hps", "-o", option, "--steps", 3,
        "--particles", 2, "--out", "out", "--json",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    (item,) = json.loads(done.out)["items"]
    assert 0 < abs(item["mean_reward"]) < 1  # a cosine
    (image,) = sorted((place / "out").glob("*-00?.png"))
    done = steer("score", image, "--reward", "hps", "-o", option, "--json")
    assert done.code == 0, done.err
    assert steer("score", image, "--reward", "hps").error().startswith("hps needs HPS_v2.1_compressed.pt")
