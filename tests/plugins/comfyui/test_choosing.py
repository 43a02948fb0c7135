"""Images and latents of ComfyUI, and rows by score."""

from __future__ import annotations

import pytest
import torch

from steer import SteerError
from steer_comfyui.choosing import above, best, check_scores, rows_of, to_images, to_samples

SCORES = [0.1, 0.7, 0.4, 0.7]


def test_images_become_samples_and_return() -> None:
    images = torch.rand(2, 4, 6, 3)
    samples = to_samples(images)
    assert samples.shape == (2, 3, 4, 6)
    assert torch.equal(samples[1, 2, 3], images[1, 3, :, 2])
    assert torch.equal(to_images(samples), images)


def test_gray_alpha_and_the_one_frame_of_a_video_model_are_images_too() -> None:
    images = torch.rand(2, 4, 6, 4)
    assert torch.equal(to_samples(images), to_samples(images[..., :3]))
    assert torch.equal(to_samples(images[..., :1]), to_samples(images[..., :1].expand(-1, -1, -1, 3)))
    assert torch.equal(to_samples(images[:, None]), to_samples(images))


@pytest.mark.parametrize("shape", [(2, 5, 4, 6, 3), (4, 6, 3), (2, 4, 6, 2)])
def test_what_is_no_batch_of_images_is_refused(shape) -> None:
    with pytest.raises(SteerError, match=r"steer's nodes score images, got"):
        to_samples(torch.rand(shape))


def test_best_are_in_order_and_the_first_wins_a_tie() -> None:
    assert best(SCORES, 3) == [1, 3, 2]
    assert best(SCORES, 9) == [1, 3, 2, 0]


def test_threshold_keeps_the_order() -> None:
    assert above(SCORES, 0.4, "error") == [1, 2, 3]


def test_a_threshold_that_none_reaches() -> None:
    with pytest.raises(SteerError, match=r"no image reaches the threshold 0.9: the best of 4 has 0.7"):
        above(SCORES, 0.9, "error")
    assert above(SCORES, 0.9, "best") == [1]
    assert above(SCORES, 0.9, "skip") == []


def test_rows_of_a_latent_keep_what_belongs_to_them() -> None:
    samples, mask = torch.rand(3, 4, 2, 2), torch.rand(3, 16, 16)
    chosen = rows_of({"samples": samples, "noise_mask": mask, "batch_index": [5, 6, 7]}, [2, 0])
    assert torch.equal(chosen["samples"], samples[[2, 0]])
    assert torch.equal(chosen["noise_mask"], mask[[2, 0]])
    assert chosen["batch_index"] == [7, 5]
    assert torch.equal(rows_of({"samples": samples, "noise_mask": mask[:1]}, [2])["noise_mask"], mask[:1])


def test_scores_and_latents_of_other_images_are_refused() -> None:
    with pytest.raises(SteerError, match="got 4 scores for 3 images"):
        check_scores(SCORES, 3)
    with pytest.raises(SteerError, match="the latent has 2 rows, and image 3 was chosen"):
        rows_of({"samples": torch.rand(2, 4, 2, 2)}, [3])
