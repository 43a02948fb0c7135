"""The verifier and its reward against rendered truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steer_shapes.captions import sample_requirements
from steer_shapes.grammar import CATEGORIES, PromptError, parse_prompt
from steer_shapes.layout import sample_scene
from steer_shapes.negatives import changes
from steer_shapes.render import render, render_batch
from steer_shapes.reward import ShapesReward, score
from steer_shapes.scenes import CANVAS, COLORS, Scene
from steer_shapes.verifier import parse_images

SCENES = 100


def images_of(scenes: list[Scene], size: int = CANVAS) -> torch.Tensor:
    return torch.from_numpy(render_batch(scenes, size)).permute(0, 3, 1, 2).float() / 255


def other(rng: np.random.Generator, values: tuple[str, ...], but: str) -> str:
    rest = [value for value in values if value != but]
    return rest[rng.integers(len(rest))]


@pytest.mark.slow
@pytest.mark.parametrize("category", CATEGORIES)
def test_truth_scores_one_and_changes_score_less(category: str) -> None:
    rng = np.random.default_rng(CATEGORIES.index(category))
    asked = [sample_requirements(category, rng) for _ in range(SCENES)]
    scenes = [sample_scene(requirements, rng, 0.6) for requirements in asked]
    found = parse_images(images_of(scenes))
    exact = [score(r, objects) == 1.0 for r, objects in zip(asked, found, strict=True)]
    assert np.mean(exact) >= 0.98
    below: dict[str, list[bool]] = {}
    for requirements, objects in zip(asked, found, strict=True):
        for kind, wrong in changes(requirements, rng).items():
            below.setdefault(kind, []).append(score(wrong, objects) < 1.0)
    assert {kind: np.mean(values) for kind, values in below.items() if np.mean(values) < 0.98} == {}


def test_reward_is_float32_in_unit_interval_and_graded() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(sample_requirements("complex", rng), rng)
    names = [f"a {obj.color} {obj.shape}" for obj in scene]
    right = f"{names[0]}, {names[1]} and {names[2]}"
    wrong_color = right.replace(scene[0].color, other(rng, COLORS, scene[0].color), 1)
    image = images_of([scene]).expand(4, -1, -1, -1)
    prompts = [right, wrong_color, names[0], "four small striped crosses"]
    rewards = ShapesReward()(image, prompts)
    assert rewards.dtype == torch.float32 and rewards.shape == (4,)
    assert rewards[0] == 1 and 1 > rewards[1] > rewards[3] > 0 and rewards[2] < 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64, 96, 256])
def test_other_image_sizes_are_read(size: int) -> None:
    rng = np.random.default_rng(size)
    asked = [sample_requirements("color", rng) for _ in range(40)]
    scenes = [sample_scene(requirements, rng, 1.0) for requirements in asked]
    rewards = ShapesReward()(images_of(scenes, size), [r.text() for r in asked])
    # Half the resolution leaves a small star seven pixels wide.
    assert (rewards == 1).float().mean() >= (0.6 if size < CANVAS else 0.95)


def test_nothing_raises_on_noise() -> None:
    noise = torch.Generator().manual_seed(0)
    images = torch.stack(
        [
            torch.rand(3, 64, 64, generator=noise),
            torch.randn(3, 64, 64, generator=noise) * 5,
            torch.zeros(3, 64, 64),
            torch.ones(3, 64, 64),
            torch.full((3, 64, 64), float("nan")),
            torch.full((3, 64, 64), float("inf")),
            torch.rand(3, 64, 64, generator=noise) ** 6,
            (torch.rand(3, 64, 64, generator=noise) > 0.97).float(),
        ]
    )
    prompts = ["a red circle above a blue star"] * len(images)
    rewards = ShapesReward()(images, prompts)
    assert torch.isfinite(rewards).all() and (rewards >= 0).all() and (rewards < 1).all()
    assert ShapesReward()(images[:0], []).shape == (0,)


def test_objects_are_described() -> None:
    rng = np.random.default_rng(5)
    scene = sample_scene(sample_requirements("texture", rng), rng)
    found = parse_images(images_of([scene]))[0]
    for obj in scene:
        match = min(found, key=lambda d: abs(d.cx - obj.cx) + abs(d.cy - obj.cy))
        assert (match.shape, match.color, match.size) == (obj.shape, obj.color, obj.size)
        assert match.texture == obj.texture
        assert abs(match.cx - obj.cx) < 1 and abs(match.radius - obj.radius) < 1


def test_relations_decide_between_equal_objects() -> None:
    rng = np.random.default_rng(3)
    asked = parse_prompt("a star to the left of a star")
    images = images_of([sample_scene(asked, rng) for _ in range(20)])
    assert ShapesReward()(images, [asked.text()] * 20).mean() == 1


def test_bad_calls_are_named() -> None:
    image = torch.from_numpy(render(()).copy()).permute(2, 0, 1).float()[None] / 255
    with pytest.raises(PromptError, match="a photo of a cat"):
        ShapesReward()(image, ["a photo of a cat"])
    with pytest.raises(ValueError, match="2 prompts"):
        ShapesReward()(image, ["a star", "a star"])
    with pytest.raises(ValueError, match=r"\[3, 64, 64\]"):
        ShapesReward()(image[0], ["a star"] * 3)
