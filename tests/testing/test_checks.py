"""The conformance kit: a good reward passes, and each way to break the contract is caught by its check."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from support.tiny import brightness

from steer import Reward, SteerError
from steer.registry.plugins import Plugins, manager
from steer.rewards.by_name import make_reward
from steer.testing import check_reward, example_samples
from steer.testing.report import write_report

SAMPLES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))
PROMPTS = [f"prompt {number}" for number in range(6)]


def failures(reward, **more) -> set[str]:
    report = check_reward(reward, SAMPLES, PROMPTS, **more)
    return {check.name for check in report.checks if check.status == "failed"}


class Smooth(Reward):
    """Differentiable and right."""

    differentiable = True

    def __call__(self, samples, prompts):
        return (samples**2).mean(dim=(1, 2, 3)) * 30


class Doubled(Smooth):
    """Its gradient is twice what it should be."""

    def __call__(self, samples, prompts):
        score = super().__call__(samples, prompts)
        return score.detach() + 2 * (score - score.detach())


class Detached(Smooth):
    """Claims a gradient that it has not."""

    def __call__(self, samples, prompts):
        return super().__call__(samples.detach(), prompts)


class OneChannel(Smooth):
    """Its gradient lacks two of three channels, and is right along itself."""

    def __call__(self, samples, prompts):
        return super().__call__(torch.cat([samples[:, :1], samples[:, 1:].detach()], dim=1), prompts)


class Coarse(Smooth):
    """Rounded as a model in half precision rounds, with a right gradient."""

    def __call__(self, samples, prompts):
        score = super().__call__(samples, prompts)
        return score + ((20 * score).round() / 20 - score).detach()


def changes_its_input(samples, prompts):
    score = samples.mean(dim=(1, 2, 3))
    samples.clamp_(0, 0.5)
    return score


def eats_its_prompts(samples, prompts):
    prompts.pop()
    return samples.mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("reward", "caught"),
    [
        (brightness, set()),
        (Smooth(), set()),
        (Coarse(), set()),
        (Doubled(), {"gradient"}),
        (Detached(), {"gradient"}),
        (OneChannel(), {"gradient"}),
        (changes_its_input, {"input unchanged"}),
        (lambda s, p: (s.mean(dim=(1, 2, 3)) * 100).long(), {"dtype and device"}),
        (lambda s, p: s.mean(dim=(1, 2, 3)) + random.random(), {"determinism"}),
        (lambda s, p: s.mean(dim=(1, 2, 3)) - s.mean(), {"batch invariance", "row independence"}),
        (lambda s, p: s.mean(dim=(1, 2, 3)) + torch.arange(len(p)), {"batch invariance", "order invariance"}),
        (lambda s, p: 1 / s.mean(dim=(1, 2, 3)), {"extremes"}),
    ],
)
def test_each_breach_is_caught(reward, caught) -> None:
    found = failures(reward)
    # noise from outside shows in the comparisons too
    assert caught <= found if caught == {"determinism"} else found == caught


def test_wrong_shapes_exceptions_and_eaten_prompts_fail() -> None:
    assert "shape" in failures(lambda s, p: s.mean())
    assert "shape" in failures(lambda s, p: 1 / 0)
    assert "input unchanged" in failures(eats_its_prompts)


def test_gradients_are_checked_only_where_claimed_or_asked() -> None:
    assert failures(brightness, differentiable=True) == set()
    status = {c.name: c.status for c in check_reward(brightness, SAMPLES, PROMPTS).checks}
    assert status["gradient"] == "skipped"


def test_require_lists_what_failed() -> None:
    assert check_reward(brightness, SAMPLES, PROMPTS).require().ok
    with pytest.raises(AssertionError, match=r"breaks its contract:\n  gradient: declares differentiable"):
        check_reward(Detached(), SAMPLES, PROMPTS).require()


def test_samples_and_prompts_must_fit() -> None:
    with pytest.raises(SteerError, match="got 6 samples and 2 prompts"):
        check_reward(brightness, SAMPLES, ["a", "b"])


def test_examples_come_from_plugins_or_are_noise() -> None:
    images, prompts = example_samples()
    assert images.shape == (len(prompts), 3, 64, 64)
    assert {p.category for p in prompts} >= {"color", "spatial"}
    noise, names = example_samples(Plugins())
    assert len(noise) == len(names) and not torch.equal(noise[0], noise[1])


@pytest.mark.slow
def test_a_third_of_the_examples_meets_its_prompt() -> None:
    from steer_shapes.reward import ShapesReward

    images, prompts = example_samples()
    truth = ShapesReward()(images, prompts)
    assert (truth[::3] == 1).all()
    assert (truth[1::3] < 1).float().mean() > 0.9


def test_the_report_shows_best_and_worst(tmp_path) -> None:
    report = check_reward(brightness, SAMPLES, PROMPTS)
    data, picture = map(Path, write_report(report, tmp_path / "report"))
    assert json.loads(data.read_text())["ok"] is True
    assert picture.read_bytes().startswith(b"\x89PNG")
    order = SAMPLES.mean(dim=(1, 2, 3)).argsort()
    assert max(range(6), key=lambda i: report.scores[i]) == order[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["motion", "flicker"])
def test_rewards_of_videos_are_checked_on_scenes_that_move(name: str, tmp_path: Path) -> None:
    reward = make_reward([f"{name}:2"], {}, manager(), torch.device("cpu"))
    report = check_reward(reward, name=name, batch=3).require()
    assert report.samples.ndim == 5 and any(check.name == "gradient" for check in report.checks)
    assert len(write_report(report, tmp_path)) == 2


@pytest.mark.slow
def test_a_reward_of_images_is_checked_on_videos_frame_by_frame() -> None:
    videos = SAMPLES.unsqueeze(1).repeat(1, 5, 1, 1, 1) * torch.linspace(0.5, 1, 5).view(1, 5, 1, 1, 1)
    check_reward(Smooth(), videos, PROMPTS).require()
    report = check_reward(Doubled(), videos, PROMPTS)
    assert {check.name for check in report.checks if check.status == "failed"} == {"gradient"}
