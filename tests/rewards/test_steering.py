"""Every reward steers: FK with each at tiny random size on two families, and from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from families.flux import tiny_flux
from reward_models import blip_vqa_folder, clip_flant5_folder, imagereward_folder
from tiny_clips import aesthetic_folder, hps_folder, open_clip_folder, transformers_folder

from steer import Sampler

REWARDS = ("clip", "hps", "pickscore", "aesthetic", "jpeg", "imagereward", "vqa", "da", "bvqa")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of tiny size in folders, by reward."""
    root = tmp_path_factory.mktemp("weights")
    blip = blip_vqa_folder(root / "blip")
    return {
        "clip": open_clip_folder(root / "clip"), "hps": hps_folder(root / "hps"),
        "pickscore": transformers_folder(root / "pickscore"), "aesthetic": aesthetic_folder(root / "aesthetic"),
        "da": blip, "bvqa": blip,
        "imagereward": imagereward_folder(root / "imagereward"), "vqa": clip_flant5_folder(root / "vqa"),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["sd", "flux"])
def sampler(request: pytest.FixtureRequest, tiny_pipe: Any) -> Sampler:
    return Sampler(tiny_pipe if request.param == "sd" else tiny_flux())


def given(reward: str, folder: Path | None) -> tuple[str, dict[str, dict[str, str]]]:
    """Return a reward's expression and options that make it take its weights from a folder."""
    if reward in ("clip", "vqa"):
        return f"{reward}:{folder}", {}
    if reward == "aesthetic":
        return reward, {reward: {"head": str(folder), "clip": str(folder)}}
    return reward, {} if folder is None else {reward: {"weights": str(folder)}}


@pytest.mark.parametrize("reward", REWARDS)
def test_fk_steers_by_each_reward_on_two_families(sampler: Sampler, folders: dict[str, Path], reward: str) -> None:
    expression, options = given(reward, folders.get(reward))
    fk = {"lambda": 200.0, "start": 0, "end": 4, "frequency": 1}
    result = sampler.generate(
        "a red circle", methods=["fk"], particles=3, steps=4, eta=1.0, seed=1, reward=expression,
        options={**options, "fk": fk},
    )  # fmt: skip
    (scores,) = result.rewards
    assert len(scores) == 3
    plain = sampler.generate("a red circle", particles=3, steps=4, eta=1.0, seed=1, reward=expression, options=options)
    (unsteered,) = plain.rewards
    assert scores != unsteered  # the reward had a say


def steer(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    command = [sys.executable, "-m", "steer", *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def test_without_weights_the_command_ends_with_one_line(tmp_path: Path) -> None:
    done = steer(
        "generate", "a red circle", "-m", "shapes", "--plugin", "fk", "--reward", "hps", "--out", tmp_path / "out",
        HF_HUB_CACHE=str(tmp_path / "cache"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "steer: error: hps needs HPS_v2.1_compressed.pt of xswu/HPSv2 (2.0 GB), which is not in the hub's cache, and "
        "the hub cannot be reached: run `steer download hps` where it can, or copy it here and set -o "
        "hps.weights=PATH\n"
    )
    assert not (tmp_path / "out").exists()


def test_with_a_local_file_the_command_steers(folders: dict[str, Path], tmp_path: Path) -> None:
    file = folders["hps"] / "HPS_v2.1_compressed.pt"
    done = steer(
        "generate", "a red circle", "-m", "shapes", "--plugin", "fk", "--reward", "hps", "-o", f"hps.weights={file}",
        "--steps", 3, "--particles", 2, "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (item,) = json.loads(done.stdout)["items"]
    assert len(item["reward"]) == 2
