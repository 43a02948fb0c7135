"""An edit in the embedded world: inpainting by the trained model, in the stock class and with a mask, steered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from steer import ModelOptions, Prompt, Sampler
from steer_shapes.render import render
from steer_shapes.scenes import SceneObject

pytestmark = [pytest.mark.slow, pytest.mark.thorough]  # a trained model draws dozens of images

HALF = 32
COLORS = ("blue", "green", "yellow", "purple")


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler("shapes", device="cpu", model_options=ModelOptions(pipeline="StableDiffusionInpaintPipeline"))


def photo() -> Image.Image:
    """Return a red circle in the left half."""
    return Image.fromarray(render((SceneObject("circle", "red", "large", "plain", 16.0, 32.0, 9.0),)))


def right_half() -> Image.Image:
    mask = Image.new("L", (2 * HALF, 2 * HALF))
    mask.paste(255, (HALF, 0, 2 * HALF, 2 * HALF))
    return mask


def test_what_is_painted_beside_a_kept_object_is_steered(sampler: Sampler) -> None:
    inputs = {"image": photo(), "mask_image": right_half(), "strength": 1.0}
    prompts = [
        Prompt(f"a red circle to the left of a {color} square", id=color, seed=10 * number)
        for number, color in enumerate(COLORS)
    ]
    common = {"reward": "shapes", "particles": 6, "steps": 6, "chunk": 6, "eta": 1.0, "inputs": inputs}
    plain = sampler.generate(prompts, **common)
    steered = sampler.generate(prompts, methods=["fk"], options={"fk": {"lambda": 10.0}}, **common)
    kept = torch.from_numpy(np.asarray(photo(), dtype=np.float32))[:, : HALF - 4]
    for item in (*plain.items, *steered.items):
        for sample in item.samples:
            drawn = torch.from_numpy(np.asarray(sample.value, dtype=np.float32))[:, : HALF - 4]
            assert (drawn - kept).abs().mean() < 12  # of 255: what the autoencoder loses
    gain = torch.tensor(steered.rewards).mean(dim=1) - torch.tensor(plain.rewards).mean(dim=1)
    assert gain.mean() > 0.05, (plain.rewards, steered.rewards)
