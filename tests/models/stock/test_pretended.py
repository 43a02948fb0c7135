"""Pipelines without a family on a pretended device: nothing mixes devices, and samples are those of the CPU."""

from __future__ import annotations

import pytest
import torch
from support.any_pipelines import Kind, image_kinds
from support.pretended import CUDA, pretended
from support.tiny import brightness
from support.video_pipelines import video_kinds

from steer import Prompt, Sampler

KINDS = {f"{kind.name}, {kind.task}": kind for kind in (*image_kinds(), *video_kinds())}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_class_is_steered_on_the_device(kind: Kind) -> None:
    prompt = Prompt("a red circle", seed=5, metadata=kind.inputs)
    given = {"steps": kind.steps, "particles": 2, "methods": ["fk"], "reward": brightness, "choose": "all"}
    given |= {**kind.settings, **kind.noisy}

    def rewards(device: str) -> list[float]:
        return Sampler(kind.make().to(torch.device(device))).generate([prompt], **given).rewards[0]

    expected = rewards("cpu")
    with pretended():
        assert rewards(CUDA) == pytest.approx(expected, abs=1e-4)
