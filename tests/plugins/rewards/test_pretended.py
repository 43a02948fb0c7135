"""All rewards on a pretended device, at tiny sizes: scores, gradients, and what a scoring waits for.

The device is Apple's: it keeps the rules of CUDA, and has no float64 besides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import reward_models, tiny_clips
from support.pretended import STRICT, pretended

from steer import Reward
from steer.registry.plugins import manager
from steer.rewards.checked import checked
from steer.rewards.combinations import is_differentiable
from steer_rewards.aesthetic import Aesthetic, AestheticOptions
from steer_rewards.blip_vqa import BlipVqaOptions
from steer_rewards.bvqa import Bvqa
from steer_rewards.clip import Clip
from steer_rewards.da import Da
from steer_rewards.hps import Hps, HpsOptions
from steer_rewards.imagereward import ImageReward, ImageRewardOptions
from steer_rewards.jpeg import Jpeg
from steer_rewards.pickscore import PickScore, PickScoreOptions
from steer_rewards.vqa import Vqa, VqaOptions
from steer_shapes.reward import ShapesReward

PROMPTS = ["a red circle", "two blue squares"]
REWARDS: dict[str, Callable[[Path, str], Reward]] = {
    "clip": lambda at, on: Clip(argument=str(tiny_clips.open_clip_folder(at)), device=on),
    "hps": lambda at, on: Hps(HpsOptions(weights=str(tiny_clips.hps_folder(at))), device=on),
    "pickscore": lambda at, on: PickScore(PickScoreOptions(weights=str(tiny_clips.transformers_folder(at))), device=on),
    "aesthetic": lambda at, on: Aesthetic(
        AestheticOptions(head=str(tiny_clips.aesthetic_folder(at)), clip=str(at)), device=on
    ),
    "imagereward": lambda at, on: ImageReward(
        ImageRewardOptions(weights=str(reward_models.imagereward_folder(at))), device=on
    ),
    "da": lambda at, on: Da(BlipVqaOptions(weights=str(reward_models.blip_vqa_folder(at))), device=on),
    "bvqa": lambda at, on: Bvqa(BlipVqaOptions(weights=str(reward_models.blip_vqa_folder(at))), device=on),
    "vqa": lambda at, on: Vqa(VqaOptions(dtype="fp32"), argument=str(reward_models.clip_flant5_folder(at)), device=on),
    "vqa-llava": lambda at, on: Vqa(VqaOptions(dtype="fp32"), argument=str(reward_models.llava_folder(at)), device=on),
    "vqa-qwen": lambda at, on: Vqa(
        VqaOptions(dtype="fp32"), argument=str(reward_models.qwen2_vl_folder(at)), device=on
    ),
    "jpeg": lambda at, on: Jpeg(device=on),
    "shapes": lambda at, on: ShapesReward(device=on),
}
SYNCS = {"imagereward": 2, "vqa": 3, "vqa-llava": 6, "vqa-qwen": 32, "jpeg": 2, "shapes": 2}
"""What scoring two images waits for, if it is more than the check that scores are finite."""


ELSEWHERE = {
    "symmflow", "ocr", "shapes-objects", "shapes-count", "shapes-relations", "shapes-clean", "http", "vlm",
    "unifiedreward",
}  # fmt: skip
"""In the tests of its plugin; computed on the CPU alone; parts of ``shapes``; asked of servers."""
NOT_YET = {
    "objects", "count", "positions", "colors", "geneval", "compbench-2d", "compbench-3d", "compbench-numeracy",
    "soft-tifa", "dsg", "hpsv3",
}  # fmt: skip
"""Not tried on a pretended device yet."""


def test_no_reward_of_images_is_left_out() -> None:
    entries = manager().registry.entries["reward"].values()
    images = {entry.name for entry in entries if getattr(entry.load(), "modality", "image") in ("image", None)}
    assert images - ELSEWHERE - NOT_YET <= set(REWARDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", REWARDS)
def test_scores_and_gradients_on_the_device_are_those_on_the_cpu(name: str, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    expected = checked(name, REWARDS[name](tmp_path, "cpu"), images, PROMPTS)
    with pretended(STRICT) as traffic:
        reward = REWARDS[name](tmp_path, STRICT)
        there = images.to(STRICT)
        scores = checked(name, reward, there, PROMPTS)  # texts are read
        assert scores.device == there.device
        before = traffic.counts
        checked(name, reward, there, PROMPTS)
        assert traffic.counts[0] - before[0] <= SYNCS.get(name, 1), traffic.syncs
        if is_differentiable(reward):
            leaf = there.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(checked(name, reward, leaf, PROMPTS).sum(), leaf)
            assert gradient.device == leaf.device
    assert torch.allclose(scores.cpu(), expected, atol=1e-4)
