"""T2I-CompBench++'s scores: the published evaluation's numbers, by hand, and as rewards over real detectors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.detected import pairs, slope
from support.tiny_detectors import depth_folder, owlv2_folder
from torch.nn import functional

from steer import Prompt, SteerError
from steer.testing import check_reward
from steer_detect.asked import parse
from steer_detect.compbench import DEEP, FLAT, deep_score, ends_of, flat_score, number_score, wanted_of
from steer_detect.compbench_rewards import CompbenchOptions, Deep, DepthOptions, Flat, Numeracy
from steer_detect.detection import Detection

FLAT_SCORES = [
    0.7625, 0.725, 0.7075, 0.76, 0.82, 0, 0, 0, 0.8375, 0.715, 0.735, 0, 0, 0.8075, 0, 0, 0.8025, 0.9425,
    0.8125, 0, 0, 0.7775, 0, 0, 0.82, 0.8525, 0.96, 0, 0, 0, 0, 0, 0.6875, 0.7675, 0.515357, 0, 0, 0.8625, 0, 0,
    0, 0.88, 0.9275, 0.955, 0, 0, 0, 0, 0.7925, 0.8425, 0.636875, 0, 0, 0, 0, 0, 0.805, 0.82, 0.706087, 0.76, 0,
    0, 0, 0,
]  # fmt: skip
DEEP_SCORES = [
    0.2625, 0.35, 0.2075, 0.26, 0.32, 0.680714, 0.345, 0.2575, 0.3375, 0.215, 0.235, 0.4325, 0.415, 0.3075,
    0.375, 0.315, 0.3025, 0.4425, 0.3125, 0.36, 0.457778, 0.364457, 0.3025, 0.345, 0.32, 0.463611, 0.541081,
    0.295, 0.3225, 0.44, 0.3475, 0.23, 0.1875, 0.498269, 0.2475, 0.29, 0.3875, 0.3625, 0.3325, 0.365, 0.19,
    0.38, 0.4275, 0.455, 0.2875, 0.175, 0.245, 0.2975, 0.2925, 0.3425, 0.4025, 0.2625, 0.295, 0.3825, 0.3075,
    0.3375, 0.305, 0.32, 0.38, 0.334074, 0.3125, 0.2525, 0.3975, 0.3075,
]  # fmt: skip
"""What the published evaluation gives for the made-up pairs."""
BOX, OTHER, FAR = (0.0, 0.0, 40.0, 40.0), (2.0, 2.0, 42.0, 42.0), (120.0, 110.0, 160.0, 150.0)


def detections(placed: Any) -> list[Detection]:
    return [Detection("x", score, tuple(box)) for score, box in placed]


def test_relations_in_the_plane_score_as_published() -> None:
    mine = [flat_score(relation, *detections(placed)) for relation, *placed in pairs(64, FLAT)]
    assert mine == pytest.approx(FLAT_SCORES, abs=1e-6)
    assert 0 in FLAT_SCORES and len(set(FLAT_SCORES)) > 20


def test_relations_in_space_score_as_published() -> None:
    mine = [deep_score(relation, *detections(placed), slope()) for relation, *placed in pairs(64, DEEP)]
    assert mine == pytest.approx(DEEP_SCORES, abs=1e-6)


def test_an_object_that_is_not_there_leaves_half_the_confidence() -> None:
    one = Detection("dog", 0.8, BOX)
    assert flat_score("next to", one, None) == 0  # less than a half counts as nothing
    assert deep_score("behind", one, None, np.zeros((64, 64))) == pytest.approx(0.2)
    assert deep_score(None, one, one, np.zeros((64, 64))) == pytest.approx(0.4)


def test_distances_are_those_of_the_published_size() -> None:
    dog, cat = Detection("dog", 1.0, BOX), Detection("cat", 1.0, FAR)
    assert flat_score("next to", dog, cat, side=479) == 1.0
    assert flat_score("next to", dog, cat, side=256) == pytest.approx(0.5 + 150 / (120 * 479 / 256) / 2)  # too far
    assert flat_score("on the left of", dog, cat) == 1.0 and flat_score("on the right of", dog, cat) == 0.5


@pytest.mark.parametrize(
    ("found", "score"),
    [
        ([("dog", BOX), ("dog", FAR), ("cat", BOX)], 1.0),
        ([("dog", BOX), ("dog", OTHER), ("dog", FAR), ("cat", BOX)], 1.0),  # the second is the first
        ([("dog", BOX), ("cat", BOX)], 0.75),
        ([("dog", BOX), ("dog", FAR)], 0.5),
        ([], 0.0),
    ],
)
def test_numbers_by_hand(found: list[tuple[str, Any]], score: float) -> None:
    made = [Detection(name, 0.9, box) for name, box in found]
    assert number_score([("dog", 2), ("cat", 1)], made) == score


@pytest.mark.parametrize(
    ("text", "relation", "ends"),
    [
        ("a girl on the left of a tv", "on the left of", ("person", "tv")),
        ("a dog next to a cat", "next to", ("dog", "cat")),
        ("a bowl in front of a man", "in front of", ("bowl", "person")),
    ],
)
def test_the_objects_of_a_relation(text: str, relation: str, ends: tuple[str, str]) -> None:
    assert ends_of(text, relation, parse(text).include) == ends


def test_numbers_of_a_prompt_go_by_the_names_that_detectors_know() -> None:
    assert wanted_of(parse("three ships and two women").include) == [("boat", 3), ("person", 2)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("compbench")
    return {"weights": owlv2_folder(root / "owlv2"), "depth": depth_folder(root / "depth")}


@pytest.fixture(scope="module")
def rewards(folders: dict[str, Path]) -> dict[str, Any]:
    options = {"weights": str(folders["weights"]), "threshold": 0.0}
    return {
        "compbench-2d": Flat(CompbenchOptions(**options)),
        "compbench-3d": Deep(DepthOptions(**options, depth=str(folders["depth"]))),
        "compbench-numeracy": Numeracy(CompbenchOptions(**options)),
    }


@pytest.mark.slow  # dozens of calls
@pytest.mark.parametrize("name", ["compbench-2d", "compbench-3d", "compbench-numeracy"])
def test_they_keep_the_contract_of_a_reward(rewards: dict[str, Any], name: str) -> None:
    prompts = ["a dog on the left of a cat", "two circle and a square", "a circle behind a tv", "a dog next to a cat"]
    images = torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    check_reward(rewards[name], images, [Prompt(text) for text in prompts], name=name).require()
    assert rewards[name](images, prompts).max() > 0


@pytest.mark.slow
def test_depth_is_the_models_own(rewards: dict[str, Any]) -> None:
    reward, image = rewards["compbench-3d"], torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    near = reward.depth(**reward._processor(images=(image[0] * 255).round().byte(), return_tensors="pt"))
    depth = functional.interpolate(near.predicted_depth[:, None], (48, 64), mode="bicubic", align_corners=False)[0, 0]
    seen = 0
    for names in itertools.combinations(("dog", "cat", "tv", "circle", "square", "star"), 2):
        (found,) = reward.detector.find(image, [names])
        groups = [[one for one in found if one.name == name] for name in names]
        if all(groups):
            surest = [max(group, key=lambda one: one.score) for group in groups]
            expected = deep_score("in front of", *surest, depth.detach().numpy())
            assert float(reward(image, [f"a {names[0]} in front of a {names[1]}"])) == pytest.approx(expected, abs=1e-4)
            seen += 1
    assert seen


def test_what_is_no_model_of_depth_is_named(folders: dict[str, Path]) -> None:
    options = DepthOptions(weights=str(folders["weights"]), depth=str(folders["weights"]))
    with pytest.raises(SteerError, match="is not a model of depth that transformers can load"):
        Deep(options)
