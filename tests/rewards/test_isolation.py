"""One reward cannot spoil another, nor the samples, nor the process."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from steer import Prompt
from steer.rewards.reward import WeightedSum, checked

SAMPLES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = [Prompt("a", metadata={"key": [1]}), Prompt("b", metadata={"key": [2]})]


def brightness(samples, prompts):
    assert prompts == ["a", "b"] and [prompt.metadata for prompt in prompts] == [{"key": [1]}, {"key": [2]}]
    return samples.mean(dim=(1, 2, 3))


def in_place(samples, prompts):
    samples.mul_(0)
    return samples.mean(dim=(1, 2, 3))


def through_data(samples, prompts):
    samples.data[:] = 0
    return samples.mean(dim=(1, 2, 3))


def through_numpy(samples, prompts):
    samples.detach().numpy()[:] = 0
    return samples.mean(dim=(1, 2, 3))


def empties_the_prompts(samples, prompts):
    prompts.clear()
    return samples.mean(dim=(1, 2, 3))


def keeps_the_prompts(samples, prompts, kept=[]):  # noqa: B006 - that is the fault
    kept.append(prompts)
    kept[0].append(Prompt("late"))
    return samples.mean(dim=(1, 2, 3))


def changes_the_prompts(samples, prompts):
    for prompt in prompts:
        prompt.metadata.clear()
        prompt.id = "spoiled"
    return samples.mean(dim=(1, 2, 3))


def goes_elsewhere(samples, prompts):
    os.chdir("/")
    return samples.mean(dim=(1, 2, 3))


def seeds_everything(samples, prompts):
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    torch.rand(3)
    return samples.mean(dim=(1, 2, 3))


def leaves_modes_changed(samples, prompts):
    torch.set_grad_enabled(not torch.is_grad_enabled())
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    return samples.mean(dim=(1, 2, 3))


SPOILERS = [
    in_place, through_data, through_numpy, empties_the_prompts, keeps_the_prompts, seeds_everything,
    leaves_modes_changed, changes_the_prompts, goes_elsewhere,
]  # fmt: skip


def process_state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist(), torch.is_grad_enabled(),
        torch.get_num_threads(), torch.get_default_dtype(), Path.cwd(), [prompt.id for prompt in PROMPTS],
    )  # fmt: skip


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("spoiler", SPOILERS)
def test_the_reward_behind_it_sees_what_it_would_see_alone(spoiler, grad) -> None:
    samples, before = SAMPLES.clone(), process_state()
    alone = brightness(samples, PROMPTS)
    with torch.set_grad_enabled(grad):
        both = WeightedSum([("spoiler", 0.0, spoiler), ("brightness", 1.0, brightness)])
        assert torch.equal(both(samples, PROMPTS), alone)
    assert torch.equal(samples, SAMPLES)
    assert process_state() == before


def test_a_reward_that_raises_leaves_nothing_changed_either() -> None:
    def raises(samples, prompts):
        torch.manual_seed(1), torch.set_grad_enabled(False), prompts.clear()
        raise KeyError("broken")

    before, prompts = process_state(), list(PROMPTS)
    with pytest.raises(Exception, match="reward 'raises' raised KeyError"):
        checked("raises", raises, SAMPLES, prompts)
    assert process_state() == before and prompts == PROMPTS


def test_gradients_reach_the_samples_through_the_copy() -> None:
    samples = SAMPLES.clone().requires_grad_()
    checked("brightness", brightness, samples, PROMPTS).sum().backward()
    assert torch.allclose(samples.grad, torch.full_like(samples, 1 / 48))
