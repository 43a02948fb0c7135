"""All rewards on a pretended device, at tiny sizes: scores, gradients, and what a scoring waits for.

The device is Apple's: it keeps the rules of CUDA, and has no float64 besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import reward_models, tiny_clips, tiny_detectors
from support.pretended import CUDA, STRICT, pretended

from steer import Prompt, Reward
from steer.models.room import bytes_of
from steer.registry.plugins import manager
from steer.rewards.checked import checked
from steer.rewards.combinations import is_differentiable
from steer_detect.compbench_rewards import CompbenchOptions, Deep, DepthOptions, Flat, Numeracy
from steer_detect.rewards import ColorOptions, Count, DetectOptions, GenEval, ObjectColors, Objects, Positions
from steer_rewards.aesthetic import Aesthetic, AestheticOptions
from steer_rewards.blip_vqa import BlipVqaOptions
from steer_rewards.bvqa import Bvqa
from steer_rewards.clip import Clip
from steer_rewards.da import Da
from steer_rewards.hps import Hps, HpsOptions
from steer_rewards.hpsv3 import Hpsv3, Hpsv3Options
from steer_rewards.imagereward import ImageReward, ImageRewardOptions
from steer_rewards.jpeg import Jpeg
from steer_rewards.ocr import Ocr
from steer_rewards.pickscore import PickScore, PickScoreOptions
from steer_rewards.soft_tifa import Dsg, SoftTifa
from steer_rewards.vqa import Vqa
from steer_shapes.learned import ShapesClean, ShapesCount, ShapesObjects, ShapesRelations
from steer_shapes.reward import ShapesReward

PROMPTS = [Prompt("a red circle"), Prompt("two blue squares")]
PLACED = [Prompt("a red circle left of a square"), Prompt("a circle in front of two blue squares")]
QUOTED = [Prompt("a sign that says 'circle'"), Prompt("the words 'two squares'")]
ASKED = [
    Prompt("a red circle", metadata={"vqa_list": [["Does this show a red circle ?", "Yes"]]}),
    Prompt("two blue squares", metadata={"vqa_list": [["How many square ?", "two"], ["Does this show blue ?", "Yes"]]}),
]
GRAPHS = [
    Prompt("a red circle", metadata={"questions": ["Does this show a circle ?", "Does this show a red circle ?"]}),
    Prompt("a blue square", metadata={"questions": ["Does this show a square ?"]}),
]


def found(at: Path, *, colors: bool = False) -> Any:
    """Return options of a reward over the objects that a tiny detector finds."""
    options = {"weights": str(tiny_detectors.mask2former_folder(at / "detector")), "threshold": 0.0, "counting": 0.0}
    if not colors:
        return DetectOptions(**options)
    return ColorOptions(**options, clip=str(tiny_clips.open_clip_folder(at / "clip")))


def named(at: Path) -> dict[str, str]:
    """Return options of a reward over the objects that a tiny detector of any names finds."""
    return {"weights": str(tiny_detectors.owlv2_folder(at / "detector"))}


REWARDS: dict[str, Callable[[Path, dict[str, Any]], Reward]] = {
    "clip": lambda at, on: Clip(argument=str(tiny_clips.open_clip_folder(at)), **on),
    "hps": lambda at, on: Hps(HpsOptions(weights=str(tiny_clips.hps_folder(at))), **on),
    "pickscore": lambda at, on: PickScore(PickScoreOptions(weights=str(tiny_clips.transformers_folder(at))), **on),
    "aesthetic": lambda at, on: Aesthetic(
        AestheticOptions(head=str(tiny_clips.aesthetic_folder(at)), clip=str(at)), **on
    ),
    "imagereward": lambda at, on: ImageReward(
        ImageRewardOptions(weights=str(reward_models.imagereward_folder(at))), **on
    ),
    "da": lambda at, on: Da(BlipVqaOptions(weights=str(reward_models.blip_vqa_folder(at))), **on),
    "bvqa": lambda at, on: Bvqa(BlipVqaOptions(weights=str(reward_models.blip_vqa_folder(at))), **on),
    "vqa": lambda at, on: Vqa(argument=str(reward_models.clip_flant5_folder(at)), **on),
    "vqa-llava": lambda at, on: Vqa(argument=str(reward_models.llava_folder(at)), **on),
    "vqa-qwen": lambda at, on: Vqa(argument=str(reward_models.qwen2_vl_folder(at)), **on),
    "jpeg": lambda at, on: Jpeg(**on),
    "shapes": lambda at, on: ShapesReward(**on),
    "shapes-objects": lambda at, on: ShapesObjects(**on),
    "shapes-count": lambda at, on: ShapesCount(**on),
    "shapes-relations": lambda at, on: ShapesRelations(**on),
    "shapes-clean": lambda at, on: ShapesClean(**on),
    "hpsv3": lambda at, on: Hpsv3(Hpsv3Options(weights=str(reward_models.hpsv3_folder(at))), **on),
    "ocr": lambda at, on: Ocr(**on),
    "soft-tifa": lambda at, on: SoftTifa(argument=str(reward_models.llava_folder(at)), **on),
    "dsg": lambda at, on: Dsg(argument=str(reward_models.llava_folder(at)), **on),
    "objects": lambda at, on: Objects(found(at), **on),
    "count": lambda at, on: Count(found(at), **on),
    "positions": lambda at, on: Positions(found(at), **on),
    "colors": lambda at, on: ObjectColors(found(at, colors=True), **on),
    "geneval": lambda at, on: GenEval(found(at, colors=True), **on),
    "compbench-2d": lambda at, on: Flat(CompbenchOptions(**named(at)), **on),
    "compbench-3d": lambda at, on: Deep(
        DepthOptions(**named(at), depth=str(tiny_detectors.depth_folder(at / "depth"))), **on
    ),
    "compbench-numeracy": lambda at, on: Numeracy(CompbenchOptions(**named(at)), **on),
    "objects-dino": lambda at, on: Objects(
        DetectOptions(weights=str(tiny_detectors.grounding_dino_folder(at)), threshold=0.0), **on
    ),
}
PROMPTS_OF = {
    "ocr": QUOTED, "soft-tifa": ASKED, "dsg": GRAPHS, "positions": PLACED, "compbench-2d": PLACED,
    "compbench-3d": PLACED, "shapes-relations": [Prompt("a red circle to the left of a square")] * 2,
}  # fmt: skip
"""For rewards that ask something of prompts."""
SYNCS = {
    "imagereward": 2, "vqa": 3, "vqa-llava": 6, "vqa-qwen": 32, "jpeg": 2, "shapes": 2, "ocr": 2,
    "hpsv3": 13, "soft-tifa": 11, "dsg": 9, **dict.fromkeys(("objects", "objects-dino", "count", "positions"), 2),
    **dict.fromkeys(("shapes-objects", "shapes-count", "shapes-relations"), 3),  # are these the pixels read last?
    "compbench-2d": 2, "compbench-numeracy": 2, "colors": 3, "geneval": 3, "compbench-3d": 6,
}  # fmt: skip
"""What scoring two images waits for, if it is more than the check that scores are finite."""


SHARED = {"shapes-objects", "shapes-count", "shapes-relations", "shapes-clean"}
"""Rewards that read one detector of 0.8 MB, which all runs share."""
ELSEWHERE = {"symmflow", "http", "vlm", "unifiedreward"}
"""In the tests of its plugin; asked of servers."""


def test_no_reward_of_images_is_left_out() -> None:
    entries = manager().registry.entries["reward"].values()
    images = {entry.name for entry in entries if getattr(entry.load(), "modality", "image") in ("image", None)}
    assert images - ELSEWHERE <= set(REWARDS)


@pytest.mark.slow
@pytest.mark.parametrize("reward", REWARDS)
def test_scores_and_gradients_on_the_device_are_those_on_the_cpu(reward: str, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    prompts = PROMPTS_OF.get(reward, PROMPTS)
    exact = {"dtype": torch.float32}
    expected = checked(reward, REWARDS[reward](tmp_path, {"device": "cpu", **exact}), images, prompts)
    with pretended(STRICT) as traffic:
        scorer = REWARDS[reward](tmp_path, {"device": STRICT, **exact})
        there = images.to(STRICT)
        scores = checked(reward, scorer, there, prompts)  # texts are read
        assert scores.device == there.device
        before = traffic.counts
        checked(reward, scorer, there, prompts)
        assert traffic.counts[0] - before[0] <= SYNCS.get(reward, 1), traffic.syncs
        if is_differentiable(scorer):
            leaf = there.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(checked(reward, scorer, leaf, prompts).sum(), leaf)
            assert gradient.device == leaf.device
        if reward not in SHARED:  # nothing stays when it is parked
            assert bytes_of(modules_in(scorer, set())) == scorer.bytes_held()
        if scorer.park():
            assert torch.allclose(checked(reward, scorer, there, prompts), scores, atol=1e-5)
    assert torch.allclose(scores.cpu(), expected, atol=1e-4)


HALF = {
    **dict.fromkeys(("clip", "hps", "pickscore", "aesthetic", "imagereward", "da", "bvqa"), "fp16"),
    **dict.fromkeys(("vqa", "vqa-llava", "vqa-qwen", "hpsv3", "soft-tifa", "dsg"), "bf16"),
}
"""Rewards of large models, and their precision on a GPU if nobody asks for another."""


@pytest.mark.slow
@pytest.mark.skipif(CUDA != "cuda", reason="the machine has another accelerator")
@pytest.mark.parametrize("reward", HALF)
def test_weights_are_in_half_precision_on_a_gpu(reward: str, tmp_path: Path) -> None:
    with pretended():
        digest = REWARDS[reward](tmp_path, {"device": "cuda"}).digest()
        assert digest is not None and digest[0] == HALF[reward]


def modules_in(value: Any, seen: set[int]) -> Iterator[torch.nn.Module]:
    """Yield the modules that a value holds, also within helpers of its own."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.nn.Module):
        yield value
        return
    parts = [*value.values()] if isinstance(value, dict) else [*value] if isinstance(value, (list, tuple)) else []
    parts += [getattr(value, name, None) for name in ("__self__", "__wrapped__", "func", "args", "keywords")]
    for part in [*parts, *getattr(value, "__dict__", {}).values()]:
        yield from modules_in(part, seen)
