"""Pairs of noise and the teacher's sample from it, for the optional regression phase.

The paper's one-step SDXL student starts with it (arXiv 2405.14867, appendix). At a small budget it saves most of the
time.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steer import Prompt
from steer.plugin import make_run
from steer.training import Machine, write_whole
from steer_dmd2.train.teacher import Teacher, plain_attention

PACK = 128
"""Pairs per file, made in one run."""


@torch.no_grad()
def make(
    teacher: Teacher,
    captions: list[str],
    folder: Path,
    *,
    count: int,
    steps: int,
    guidance_scale: float,
    seed: int,
    machine: Machine,
    progress: Any,
) -> dict[str, Tensor]:
    """Make ``count`` pairs with the teacher's ODE (DPM-Solver++); files that an interrupted run left are reused.

    Of several processes each makes its share of the files.

    Returns:
        ``noise`` and ``x0`` ``[count, C, h, w]`` in half precision. Pair i belongs to caption i modulo the number of
        captions.
    """
    paths = {start: folder / f"pairs-{start:06d}.safetensors" for start in range(0, count, PACK)}
    for number, (start, path) in enumerate(paths.items()):
        rows = range(start, min(start + PACK, count))
        if number % machine.num_processes == machine.process_index and not path.is_file():
            generator = torch.Generator().manual_seed((seed << 20) + start)
            noise = torch.randn(len(rows), *teacher.shape, generator=generator)
            prompts = [Prompt(captions[row % len(captions)], id=str(row), seed=row) for row in rows]
            settings = {
                "scheduler": "flow-dpm++" if teacher.schedule.prediction_type == "flow" else "dpm++",
                "steps": steps,
                "guidance_scale": guidance_scale,
                "chunk": teacher.chunk(64),
            }
            settings |= {"width": teacher.size[0], "height": teacher.size[1]}
            with machine.autocast(), plain_attention(teacher.device):
                x0 = make_run(teacher.backbone, prompts, settings=settings).sample(noise=noise, hooks=False).x
            tensors = {"noise": noise.half(), "x0": x0.half().cpu()}
            write_whole(path, partial(save_file, tensors))
        progress(min(start + PACK, count))
    machine.wait_for_everyone()
    parts = [load_file(path) for path in paths.values()]
    return {name: torch.cat([part[name] for part in parts]) for name in ("noise", "x0")}
