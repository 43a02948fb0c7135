"""The size of a JPEG as a reward."""

from __future__ import annotations

import io

import pytest
import torch
from support.tiny_clips import as_tensor, pictures

from steer import SteerError
from steer.settings.options import build
from steer.testing import check_reward
from steer_rewards.jpeg import Jpeg, JpegOptions


@pytest.mark.parametrize("quality", [95, 50])
def test_it_is_minus_the_size_of_the_file_in_thousands_of_bytes(quality: int) -> None:
    images = pictures((48, 40))
    scores = Jpeg(JpegOptions(quality=quality))(as_tensor(images), [""] * 3)
    for image, score in zip(images, scores.tolist(), strict=True):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        assert score == pytest.approx(-len(file.getvalue()) / 1000, rel=1e-6)


def test_a_plain_image_compresses_better_than_noise_and_no_gradient_is_claimed() -> None:
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scores = Jpeg()(torch.cat([torch.full_like(noise, 0.5), noise]), ["", ""])
    assert scores[0] > 2 * scores[1]
    assert not Jpeg.differentiable and not Jpeg.needs_prompt


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward() -> None:
    check_reward(Jpeg()).require()


def test_a_quality_out_of_range_is_refused() -> None:
    with pytest.raises(SteerError, match=r"jpeg\.quality: got '100', expected int >= 1, <= 95"):
        build(JpegOptions, {"quality": "100"}, "jpeg")
