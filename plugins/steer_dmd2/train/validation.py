"""Validation of the averaged student: a sheet of samples and their rewards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import Prompt
from steer.plugin import WeightedSum, contact_sheet, make_run, pictures
from steer_dmd2.loading import scheduler_of
from steer_dmd2.train.teacher import Teacher, plain_attention

SHOWN = 32
"""Images per sheet."""


@torch.no_grad()
def sample(teacher: Teacher, name: str, timesteps: Sequence[int], prompts: Sequence[Prompt], autocast: Any) -> Tensor:
    """Draw one image per prompt as ``--plugin dmd2`` does, ``[N, 3, H, W]`` in [0, 1]."""
    settings = {
        "scheduler": scheduler_of(teacher.backbone),
        "timesteps": tuple(timesteps),
        "guidance_scale": teacher.guidance_scale,
        teacher.backbone.cfg_setting: 1.0,
        "chunk": teacher.chunk(32),
    }
    settings |= {"width": teacher.size[0], "height": teacher.size[1]}
    run = make_run(teacher.backbone, prompts, settings=settings)
    with autocast(), plain_attention(teacher.device):
        images: Tensor = run.sample(denoiser=name, hooks=False).samples
    return images


def validate(images: Tensor, prompts: Sequence[Prompt], reward: WeightedSum | None, path: Path) -> dict[str, float]:
    """Write a sheet; return the reward's mean, and the share of images that reach a reward of 1."""
    scores = None if reward is None else reward(images, list(prompts)).cpu().double()
    captions = [""] * len(images) if scores is None else [f"{score:.3f}" for score in scores.tolist()]
    shown = zip(pictures(images[:SHOWN]), map(str, prompts), captions, strict=False)
    contact_sheet(list(shown)).save(path)
    if scores is None:
        return {}
    return {"reward": float(scores.mean()), "full_reward": float((scores >= 1).float().mean())}
