"""Rewards of images on videos: which frames they score, and what becomes of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from steer import Reward, SteerError
from steer.models.media.video import Videos
from steer.registry.plugins import manager
from steer.registry.registry import Entry, Origin
from steer.rewards.by_name import check_modalities, check_rewards, make_reward
from steer.rewards.checked import checked
from steer.rewards.frames import Frames

CPU = torch.device("cpu")
LEVELS = torch.tensor([0.2, 0.9, 0.4, 0.6, 0.8])
"""Of a video's frames."""
VIDEOS = Videos(torch.stack([LEVELS, LEVELS / 2]).view(2, 5, 1, 1, 1).expand(2, 5, 3, 4, 4).contiguous())
PROMPTS = ["a", "b"]


class Bright(Reward):
    """Mean level, of images."""

    differentiable = True

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        assert samples.shape == (2, 3, 4, 4) and list(prompts) == PROMPTS
        return samples.mean(dim=(1, 2, 3))


class Longest(Reward):
    """Number of frames, of videos."""

    modality = "video"

    def __call__(self, samples: Videos, prompts: Sequence[str]) -> Tensor:
        return torch.full((len(samples),), float(samples.count))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Bright, Longest):
        name = cls.__name__.lower()
        entry = Entry("reward", name, cls, "", Origin("frames", "", "this test"))
        monkeypatch.setitem(manager().registry.entries["reward"], name, entry)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("first", 0.2),
        ("last", 0.8),
        ("uniform:1", 0.4),
        ("uniform:2", 0.5),
        ("uniform:3", (0.2 + 0.4 + 0.8) / 3),
        ("uniform:3:min", 0.2),
        ("uniform:99", float(LEVELS.mean())),
        ("uniform:99:min", 0.2),
    ],
)
def test_frames_are_chosen_and_their_scores_pooled(frames: str, expected: float) -> None:
    reward = make_reward(["bright"], {"bright": {"frames": frames}}, manager(), CPU)
    assert reward(VIDEOS, PROMPTS).tolist() == pytest.approx([expected, expected / 2])


def test_four_frames_unless_somebody_says_otherwise() -> None:
    usual = float(LEVELS[[0, 1, 3, 4]].mean())
    assert checked("bright", Bright(), VIDEOS, PROMPTS).tolist() == pytest.approx([usual, usual / 2])
    function = lambda samples, prompts: samples.mean(dim=(1, 2, 3))  # noqa: E731
    assert checked("f", function, VIDEOS, PROMPTS)[0].item() == pytest.approx(usual)
    function.frames = "last"
    assert checked("f", function, VIDEOS, PROMPTS)[0].item() == pytest.approx(0.8)


def test_each_part_of_an_expression_takes_videos_its_own_way() -> None:
    options = {"bright": {"frames": "last"}}
    reward = make_reward(["longest:2+min(bright,longest)+bright@0..2"], options, manager(), CPU)
    assert reward(VIDEOS, PROMPTS).tolist() == pytest.approx([10 + 0.8 + 0.4, 10 + 0.4 + 0.2])
    whole = lambda samples, prompts: torch.tensor([float(samples.count)] * 2)  # noqa: E731
    whole.modality = "video"
    assert checked("whole", whole, VIDEOS, PROMPTS).tolist() == [5, 5]


def test_functions_by_name_take_the_option_too(tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def bright(samples, prompts): return samples.mean(dim=(1, 2, 3))\nbright.frames = 'first'\n")
    name = f"{file}:bright"
    assert make_reward([name], {}, manager(), CPU)(VIDEOS, PROMPTS)[0].item() == pytest.approx(0.2)
    last = make_reward([name], {str(file): {"frames": "last"}}, manager(), CPU)
    assert last(VIDEOS, PROMPTS)[0].item() == pytest.approx(0.8)


def test_gradients_pass_to_the_frames_that_count() -> None:
    pixels = VIDEOS.pixels.clone().requires_grad_()
    reward = make_reward(["bright"], {"bright": {"frames": "uniform:3:min"}}, manager(), CPU)
    reward(Videos(pixels), PROMPTS).sum().backward()
    assert pixels.grad.abs().sum(dim=(0, 2, 3, 4)).gt(0).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("frames", ["middle", "uniform", "uniform:0", "uniform:3:max", "uniform:-1", ""])
def test_other_words_are_refused(frames: str) -> None:
    with pytest.raises(SteerError, match=r"option bright\.frames=.*: expected first, last, uniform:K"):
        check_rewards(["bright"], {"bright": {"frames": frames}}, manager())
    assert Frames.parse("uniform:7:min") == Frames("uniform:7:min", 7, True)


def test_what_scores_what_is_told() -> None:
    check_modalities(["bright+longest"], "video", {"bright": {"frames": "last"}}, manager())
    with pytest.raises(SteerError, match="reward 'longest' scores videos, and this model makes images"):
        check_modalities(["bright+longest"], "image", {}, manager())
    with pytest.raises(SteerError, match=r"option bright\.frames is for .*'bright' scores images as they are"):
        check_modalities(["bright"], "image", {"bright": {"frames": "last"}}, manager())
    with pytest.raises(SteerError, match=r"option longest\.frames is for .*'longest' scores videos as they are"):
        check_modalities(["longest"], "video", {"longest": {"frames": "last"}}, manager())


def test_an_error_in_a_frame_names_the_reward() -> None:
    with pytest.raises(SteerError, match=r"reward 'f' returned shape \(1,\), expected a tensor of shape \(2,\)"):
        checked("f", lambda samples, prompts: torch.zeros(1), VIDEOS, PROMPTS)
    with pytest.raises(SteerError, match=r"reward 'f' returned nan for prompt 'a'"):
        checked("f", lambda samples, prompts: torch.full((2,), torch.nan), VIDEOS, PROMPTS)
