"""Every reward steers: FK with each at tiny random size on two families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.families.flux import tiny_flux
from support.reward_models import blip_vqa_folder, clip_flant5_folder, hpsv3_folder, imagereward_folder
from support.tiny_clips import aesthetic_folder, hps_folder, open_clip_folder, transformers_folder

from steer import Sampler

REWARDS = ("clip", "hps", "pickscore", "aesthetic", "jpeg", "imagereward", "vqa", "da", "bvqa", "hpsv3")


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
        "hpsv3": hpsv3_folder(root / "hpsv3"),
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


@pytest.mark.slow  # ten rewards on two families
@pytest.mark.parametrize("reward", REWARDS)
def test_fk_steers_by_each_reward_on_two_families(sampler: Sampler, folders: dict[str, Path], reward: str) -> None:
    expression, options = given(reward, folders.get(reward))
    settings = {"particles": 3, "steps": 4, "eta": 1.0, "seed": 1, "width": 16, "height": 16, "reward": expression}
    # random weights tell images apart by little, so that little must weigh much
    fk = {"lambda": 1e5, "at": [0, 1, 2, 3], "potential": "diff"}
    (item,) = sampler.generate("a red circle", methods=["fk"], options={**options, "fk": fk}, **settings).items
    assert any(event["kind"] == "fk" and event["resampled"] for event in item.trace["events"])
    (plain,) = sampler.generate("a red circle", options=options, **settings).items
    assert item.mean_reward != plain.mean_reward
