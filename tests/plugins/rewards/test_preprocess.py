"""Preprocessing of tensors against the reference transforms on pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from support.tiny_clips import as_tensor, pictures
from transformers import CLIPImageProcessor

from steer_rewards import preprocess

# one step of a picture's integers in normalized units; a rounded and an unrounded resize differ by half a step
STEP = 1 / 255 / min(preprocess.CLIP_STD)
SIZES = [(224, 224), (512, 512), (640, 427), (341, 517), (100, 150), (224, 300), (1000, 90), (225, 224)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_open_clips_transform_is_met_to_the_rounding_of_pictures(size: tuple[int, int], mode: str) -> None:
    images = pictures(size, 2)
    transform = image_transform(224, is_train=False, resize_mode=mode)
    config = {"mean": preprocess.CLIP_MEAN, "std": preprocess.CLIP_STD, "resize_mode": mode}
    found = preprocess.of_open_clip(config, 224)(as_tensor(images))
    assert (found - torch.stack([transform(image) for image in images])).abs().max() <= max(3 * STEP, 0.055)


@pytest.mark.parametrize("size", SIZES)
def test_transformers_processor_is_met_to_the_rounding_of_pictures(size: tuple[int, int]) -> None:
    images = pictures(size, 2)
    expected = CLIPImageProcessor()(images=images, return_tensors="pt")["pixel_values"]
    assert (preprocess.of_transformers(224)(as_tensor(images)) - expected).abs().max() <= max(3 * STEP, 0.055)


def test_without_antialias_the_difference_would_show() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = torch.from_numpy(np.array(image.resize((224, 224), Image.Resampling.BICUBIC))).permute(2, 0, 1) / 255
    tensor = as_tensor([image])
    # noise is the worst case: PIL rounds between the two directions as well
    assert (preprocess.resize(tensor, 224, 224)[0] - expected).abs().max() < 0.02
    plain = torch.nn.functional.interpolate(tensor, (224, 224), mode="bicubic").clamp(0, 1)
    assert (plain[0] - expected).abs().max() > 0.3


def test_the_padding_is_black_before_it_is_normalized() -> None:
    padded = preprocess.longest_side_and_pad(torch.ones(1, 3, 20, 40), 40)
    assert padded.shape == (1, 3, 40, 40)
    assert torch.equal(padded[0, 0, :, 0], torch.cat([torch.zeros(10), torch.ones(20), torch.zeros(10)]))
