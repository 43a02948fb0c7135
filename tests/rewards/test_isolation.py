"""One reward cannot spoil another, nor the samples, nor the process."""

from __future__ import annotations

import asyncio
import io
import locale
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from steer import Prompt
from steer.errors import RewardError
from steer.rewards.checked import checked
from steer.rewards.combinations import WeightedSum
from steer.rewards.isolation import undisturbed

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
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    torch.autograd.set_detect_anomaly(True)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
    LEFT_OPEN.append(torch.inference_mode())
    LEFT_OPEN[-1].__enter__()
    np.seterr(all="raise")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin = sys.stdout = sys.stderr = io.StringIO()
    locale.setlocale(locale.LC_ALL, "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8")
    warnings.simplefilter("error")
    os.environ["HOME"] = os.environ["STEER_SPOILED"] = "/nowhere"
    return samples.mean(dim=(1, 2, 3))


def silences_c(samples, prompts):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.close(2)
    return samples.mean(dim=(1, 2, 3))


LEFT_OPEN: list[torch.inference_mode] = []
SPOILERS = [
    in_place, through_data, through_numpy, empties_the_prompts, keeps_the_prompts, seeds_everything,
    leaves_modes_changed, changes_the_prompts, goes_elsewhere, silences_c,
]  # fmt: skip


def process_state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist(), torch.is_grad_enabled(),
        torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device(), Path.cwd(),
        torch.get_float32_matmul_precision(), torch.is_anomaly_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark, sys.stdin, sys.stdout, sys.stderr, locale.setlocale(locale.LC_ALL),
        list(warnings.filters), dict(os.environ), [prompt.id for prompt in PROMPTS],
        torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
        np.geterr(), signal.getsignal(signal.SIGINT), [os.fstat(number).st_ino for number in range(3)],
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


@pytest.mark.parametrize("error", [SystemExit(0), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_what_is_no_exception_is_an_error_of_the_reward_too(error) -> None:
    def raises(samples, prompts):
        raise error

    with pytest.raises(RewardError, match=f"reward 'raises' raised {type(error).__name__}"):
        checked("raises", raises, SAMPLES, PROMPTS)


def test_gradients_reach_the_samples_through_the_copy() -> None:
    samples = SAMPLES.clone().requires_grad_()
    checked("brightness", brightness, samples, PROMPTS).sum().backward()
    assert torch.allclose(samples.grad, torch.full_like(samples, 1 / 48))


def test_scores_are_real_numbers() -> None:
    for dtype in (torch.bool, torch.int64, torch.float16, torch.float64):
        scores = checked("kind", lambda samples, prompts, dtype=dtype: torch.ones(2).to(dtype), SAMPLES, PROMPTS)
        assert scores.is_floating_point() and scores.tolist() == [1, 1]
    with pytest.raises(RewardError, match="reward 'phase' returned complex numbers"):
        checked("phase", lambda samples, prompts: torch.ones(2) * 1j, SAMPLES, PROMPTS)
    for scores in (np.ones(2), np.array([1, None]), [1.0, 2.0], None):
        with pytest.raises(RewardError, match=r"reward 'kind' returned .*, expected a tensor"):
            checked("kind", lambda samples, prompts, scores=scores: scores, SAMPLES, PROMPTS)


def test_within_it_gradients_are_computed_by_the_threads_that_the_caller_chose() -> None:
    for chosen in (False, True):
        with torch.autograd.set_multithreading_enabled(chosen), undisturbed():
            assert torch._C._is_multithreading_enabled() is chosen
