"""Logs of a run: ``log.jsonl``, TensorBoard's files where its writer is installed, sample sheets and validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import Prompt
from steer.plugin import WeightedSum, contact_sheet, make_run
from steer.training import rows_until, write_whole
from steer_dmd2.train.teacher import Teacher, plain_attention

SHOWN = 32
"""Images on a sheet."""


class Log:
    """Writes scalars by step. TensorBoard reads ``out/tensorboard``; ``log.jsonl`` needs no reader."""

    def __init__(self, out: Path, *, first: int) -> None:
        """Go on after ``first`` steps: later rows, of steps that will be taken again, are dropped."""
        self.path = out / "log.jsonl"
        log = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        kept = rows_until(log, first)
        write_whole(self.path, lambda path: path.write_text(kept, encoding="utf-8"))
        self._board: Any = None
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1)

    def note(self, step: int, **values: float | str) -> None:
        """Write one row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, step)

    def show(self, step: int, path: Path, images: Tensor) -> None:
        """Note a sheet that was written to ``path``."""
        if self._board is not None:
            self._board.add_images("samples", images[:SHOWN].cpu(), step)
            self._board.flush()


@torch.no_grad()
def sample(teacher: Teacher, name: str, timesteps: Sequence[int], prompts: Sequence[Prompt], autocast: Any) -> Tensor:
    """Draw one image a prompt as ``--plugin dmd2`` does, ``[N, 3, H, W]`` in [0, 1]."""
    settings = {"scheduler": "lcm", "timesteps": tuple(timesteps), "guidance_scale": 1.0, "chunk": 32,
                "width": teacher.size[0], "height": teacher.size[1]}  # fmt: skip
    run = make_run(teacher.backbone, prompts, settings=settings)
    with autocast(), plain_attention(teacher.device):
        images: Tensor = run.sample(denoiser=name, hooks=False).samples
    return images


def validate(images: Tensor, prompts: Sequence[Prompt], reward: WeightedSum | None, path: Path) -> dict[str, float]:
    """Write a sheet and return the reward's mean, and the share of images that have all of a reward up to 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = None if reward is None else reward(images, list(prompts)).double().cpu()
    pixels = (images[:SHOWN] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    from PIL import Image

    captions = ["" if scores is None else f"{float(score):.3f}" for score in scores] if scores is not None else []
    cells = [
        (Image.fromarray(picture), str(prompt), captions[index] if captions else "")
        for index, (picture, prompt) in enumerate(zip(pixels, prompts, strict=False))
    ]
    contact_sheet(cells).save(path)
    if scores is None:
        return {}
    return {"reward": float(scores.mean()), "full_reward": float((scores >= 1).double().mean())}
