"""The differentiable rewards of the embedded world: what each sees, what it is blind to, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from steer import Prompt
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward
from steer.testing import check_reward
from steer_shapes.captions import sample_requirements
from steer_shapes.detector import ATTRIBUTES, Detector, load, read, split
from steer_shapes.examples import examples
from steer_shapes.grammar import Requirements, parse_prompt
from steer_shapes.layout import sample_scene
from steer_shapes.learned import ShapesClean, ShapesCount, ShapesObjects, ShapesRelations
from steer_shapes.negatives import changes
from steer_shapes.render import render_batch
from steer_shapes.train.detector import accuracy, losses, targets


def images(requirements: list[Requirements], seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    pixels = render_batch([sample_scene(wanted, rng, plain_share=1.0) for wanted in requirements])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def test_targets_hold_each_object_once() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(sample_requirements("complex", rng), rng) for _ in range(8)]
    density, attributes = targets(scenes)
    assert density.sum(dim=1).tolist() == pytest.approx([len(scene) for scene in scenes], rel=1e-5)
    for row, scene in enumerate(scenes):
        for obj in scene:
            cell = int(obj.cy // 4) * 16 + int(obj.cx // 4)
            for name, values in ATTRIBUTES.items():
                assert values[attributes[name][row, cell]] == getattr(obj, name)


def test_the_loss_is_least_for_the_truth() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(sample_requirements("color", rng), rng) for _ in range(4)]
    density, attributes = targets(scenes)
    logits = [torch.log(torch.expm1(density.clamp(min=1e-4))).unsqueeze(1)]
    for name, values in ATTRIBUTES.items():
        logits.append(10 * torch.nn.functional.one_hot(attributes[name], len(values)).transpose(1, 2).float())
    right = torch.cat(logits, dim=1).view(4, -1, 16, 16)
    assert float(losses(right, scenes)["loss"]) < 0.01
    assert float(losses(right.flip(3), scenes)["loss"]) > 1


def test_an_untrained_detector_has_the_shapes_it_says() -> None:
    reading = read(Detector(), torch.rand(2, 3, 128, 128))  # other sizes are resized
    assert reading.density.shape == (2, 256)
    assert {name: tuple(value.shape) for name, value in reading.chances.items()} == {
        name: (2, len(values), 256) for name, values in ATTRIBUTES.items()
    }
    assert torch.allclose(reading.chances["color"].sum(dim=1), torch.ones(2, 256))
    assert float(split(torch.zeros(1, 19, 16, 16)).density[0, 0]) == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.slow
def test_the_detector_that_ships_reads_scenes() -> None:
    from steer_shapes.detector import load

    found = accuracy(load(), seed=1, count=100)
    assert found["count"] > 0.9
    assert min(found["shape"], found["color"]) > 0.95
    assert min(found["size"], found["texture"]) > 0.9


WON: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ShapesObjects: (("shape", "color", "texture", "swap"), ("relation",)),
    ShapesCount: (("shape", "count"), ("color", "texture", "swap", "relation")),
    ShapesRelations: (("relation",), ()),
}
"""What each reward tells apart, and what it is blind to by its making."""


@pytest.mark.slow
@pytest.mark.parametrize("cls", list(WON))
def test_each_reward_knows_its_side_of_a_prompt_and_is_blind_to_others(cls) -> None:
    seen, blind = WON[cls]
    rng = np.random.default_rng(0)
    pairs: dict[str, list[tuple[Requirements, Requirements]]] = {}
    for category in ("color", "shape", "texture", "numeracy", "spatial"):
        for _ in range(16):
            first = sample_requirements(category, rng, "eval")
            for kind, changed in changes(first, rng).items():
                pairs.setdefault(kind, []).append((first, changed))
    reward = cls()
    for kind in (*seen, *blind):
        mine = pairs[kind][:24]
        prompts = [first.text() for first, _ in mine]
        with torch.no_grad():
            right = reward(images([first for first, _ in mine]), prompts)
            wrong = reward(images([changed for _, changed in mine]), prompts)
        if kind in seen:
            assert float((right > wrong + 0.02).float().mean()) >= 0.8, kind
        else:
            assert float((right - wrong).abs().median()) < 0.05, kind


def test_relations_are_one_where_none_is_asked() -> None:
    samples = torch.rand(2, 3, 64, 64).requires_grad_()
    scores = ShapesRelations()(samples, ["a red circle", "two blue stars"])
    assert scores.tolist() == [1.0, 1.0]
    (gradient,) = torch.autograd.grad(scores.sum(), samples)
    assert not gradient.any()


@pytest.mark.slow  # dozens of calls each
@pytest.mark.parametrize("cls", [*WON, ShapesClean])
def test_contract_and_gradient(cls) -> None:
    pixels, prompts = examples()
    related = [index for index, prompt in enumerate(prompts) if parse_prompt(prompt).relations]
    rows = related if cls is ShapesRelations else range(len(prompts))  # elsewhere there is nothing to climb
    report = check_reward(cls(), pixels[list(rows)], [prompts[index] for index in rows])
    report.require()
    assert any(check.name == "gradient" and check.status == "passed" for check in report.checks)


def test_clean_images_are_cleaner_than_noisy_or_smeared_ones() -> None:
    clean = images([parse_prompt("a striped red circle"), parse_prompt("three dotted blue stars")])
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    mixed = (clean + clean.roll(9, dims=3)) / 2
    reward = ShapesClean()
    scores = [reward(samples, ["", ""]) for samples in (clean, noisy, mixed)]
    assert bool((scores[0] > 0.99).all())
    assert bool((scores[0] > scores[1] + 0.03).all())
    assert bool((scores[0] > scores[2]).all())


@pytest.mark.parametrize("inference", [False, True])
def test_rewards_of_a_sum_share_one_reading_until_the_images_change(inference: bool) -> None:
    looked: list[int] = []
    handle = load("cpu").register_forward_hook(lambda module, args, out: looked.append(len(args[0])))
    total = make_reward(["shapes-objects+shapes-count+shapes-relations"], {}, manager(), torch.device("cpu"))
    parts = [ShapesObjects(), ShapesCount(), ShapesRelations()]
    prompts = [Prompt("a red circle to the left of a blue square")] * 2
    try:
        images = torch.rand(2, 3, 64, 64)
        with torch.inference_mode(inference):
            images = images.clone()
            before = total(images, prompts)
            assert looked == [2]
            images.zero_()  # the same tensor with other pixels is looked at again
            after = total(images, prompts)
            assert looked == [2, 2]
            assert not torch.equal(before, after)
            assert torch.allclose(after, sum(part(images.clone(), prompts) for part in parts))
        kept = torch.rand(2, 3, 64, 64, requires_grad=True)
        for reward in parts:  # a graph of its own each, so that each can be walked back
            reward(kept, prompts).sum().backward()
    finally:
        handle.remove()
