"""Scenes with prompts that they meet, nearly meet or miss, for checking and comparing rewards."""

from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from steer import Prompt

from .grammar import CATEGORIES, parse_prompt
from .layout import LayoutError, sample_scene
from .negatives import changes
from .prompts import FILES, prompt_rows
from .render import render_batch
from .scenes import Scene


def examples(per_category: int = 12) -> tuple[Tensor, list[Prompt]]:
    """Draw scenes for the evaluation prompts, the same at every call.

    In each category a third of the scenes meets its prompt, a third differs in one thing, and a third shows something
    else.

    Args:
        per_category: 1 to 40 scenes of each category.

    Returns:
        Images, float ``[N, 3, 64, 64]`` in [0, 1], and their N prompts.
    """
    prefix, split, count = FILES["shapes-eval.jsonl"]
    rows = prompt_rows(prefix, split, count)
    scenes: list[Scene] = []
    prompts: list[Prompt] = []
    for number, category in enumerate(CATEGORIES):
        rng = np.random.default_rng([7, number])
        mine = [row for row in rows if row["category"] == category]
        for index, kind in zip(range(per_category), cycle(("same", "changed", "other"))):
            row = mine[index]
            scenes.append(_scene(row["prompt"], mine[index - 1]["prompt"], kind, rng))
            prompts.append(Prompt(row["prompt"], id=row["id"], category=category))
    pixels = torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2)
    return pixels.float().div(255).contiguous(), prompts


def _scene(text: str, other: str, kind: str, rng: np.random.Generator) -> Scene:
    wanted = parse_prompt(other if kind == "other" else text)
    if kind == "changed":
        for changed in rng.permutation(np.array(list(changes(wanted, rng).values()), dtype=object)):
            try:
                return sample_scene(changed, rng)
            except LayoutError:  # some changes contradict another relation
                continue
    return sample_scene(wanted, rng)
