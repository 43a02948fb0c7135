"""Motion and flicker against closed forms."""

from __future__ import annotations

import pytest
import torch
from support.clips import alternating, moving, still

from steer import SteerError
from steer.plugin import Videos, checked
from steer_rewards.motion import Flicker, Motion

MOTION, FLICKER = Motion(), Flicker()


def scores(videos: Videos) -> tuple[float, float]:
    """Return motion and flicker, which is what the reward is minus of."""
    prompts = [""] * len(videos)
    return checked("motion", MOTION, videos, prompts).item(), -checked("flicker", FLICKER, videos, prompts).item()


def test_closed_forms() -> None:
    assert scores(still()) == (0, 0)
    assert scores(alternating()) == (0, 1)
    for speed, side, contrast in ((1, 8, 1.0), (2, 8, 0.5), (4, 8, 1.0)):
        expected = contrast * 2 * speed * side / (32 * 48)
        assert scores(moving(speed, side, contrast=contrast)) == (pytest.approx(expected), 0)
    fade = Videos(torch.linspace(0, 1, 11).view(1, 11, 1, 1, 1).expand(1, 11, 3, 4, 4))
    assert scores(fade) == (pytest.approx(0.1), 0)


def test_a_flash_and_a_step_back_are_flicker() -> None:
    pixels = torch.zeros(1, 5, 3, 4, 4)
    pixels[:, 2] = 0.5  # one bright frame of five: of three inner frames, one is taken back
    assert scores(Videos(pixels)) == (pytest.approx(0.5 / 3), pytest.approx(0.5 / 3))
    pixels[:, 3] = 0.3  # comes back in two steps
    assert scores(Videos(pixels))[1] == pytest.approx(0.2 / 3)


def test_parts_of_a_video_score_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    videos = Videos(torch.rand(2, 9, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    whole = FLICKER(videos, ["", ""]), MOTION(videos, ["", ""])
    monkeypatch.setattr("steer.models.media.video.CHUNK_PIXELS", 1)
    parts = FLICKER(videos, ["", ""]), MOTION(videos, ["", ""])
    assert all(torch.allclose(one, other) for one, other in zip(whole, parts, strict=True))
    alone = [FLICKER(videos[row : row + 1], [""]) for row in range(2)]
    assert torch.allclose(torch.cat(alone), whole[0])


def test_gradients_are_those_of_finite_differences() -> None:
    pixels = torch.rand(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    for reward in (MOTION, FLICKER):
        assert torch.autograd.gradcheck(lambda x, reward=reward: reward(Videos(x), [""]), pixels.requires_grad_())


def test_a_video_of_two_frames_is_told() -> None:
    with pytest.raises(SteerError, match="reward 'flicker' compares 3 frames, and a video here has 2"):
        FLICKER(still(count=2), [""])
