"""Rewards of ComfyUI's nodes: by expressions, as ``steer … --reward`` takes them."""

import os
import re
from pathlib import Path

from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import (
    Combination,
    RewardFunction,
    WeightedSum,
    check_modalities,
    check_names,
    check_owners,
    leaves,
    make_reward,
    manager,
    parse_assignments,
    parse_expression,
    pick_device,
)
from steer_comfyui.choosing import to_samples


def parsed(options: str) -> dict[str, dict[str, str]]:
    """Return options that are written as ``NAME.OPTION=VALUE``, one per line.

    Raises:
        SteerError: for a line of another form.
    """
    return parse_assignments(line.strip() for line in options.splitlines() if line.strip())


def check_reward(expression: str, options: str, files: Path) -> str:
    """Look up every name in an expression, and check the options, without loading weights.

    Args:
        expression: rewards, such as ``hps:2+clip`` or ``mine.py:brightness``.
        options: see :func:`parsed`.
        files: the folder of Python files, and the only one: a workflow may come from anybody, and ComfyUI lets anybody
            who reaches it upload files into others.

    Returns:
        The expression with the files' paths.

    Raises:
        SteerError: naming what is wrong.
    """
    expression = re.sub(r"(?<![\w./\\~-])[\w-]+\.py(?=:)", lambda name: os.path.relpath(files / name[0]), expression)
    for term in leaves(parse_expression(expression)):
        if term.name.endswith(".py") and not Path(term.name).resolve().is_relative_to(files.resolve()):
            raise SteerError(f"reward {term.name!r}: a workflow may name Python files of {files} alone; put it there")
    values = parsed(options)
    check_names([], [expression], values, manager())
    check_modalities([expression], "image", values, manager(), who="ComfyUI's nodes score")
    check_owners(values, [], [expression])
    return expression


def load_reward(expression: str, options: str, device: str, files: Path, *, offload: bool) -> WeightedSum:
    """Return a reward with its weights.

    Args:
        expression: see :func:`check_reward`.
        options: see :func:`parsed`.
        device: where it computes; ``auto`` is CUDA if there is one.
        files: see :func:`check_reward`.
        offload: let it wait on the CPU between scorings, to leave the GPU's memory to ComfyUI's models.

    Raises:
        SteerError: see :func:`check_reward`; or if the weights cannot be had.
    """
    expression = check_reward(expression, options, files)
    place = pick_device(None if device == "auto" else device)
    reward = make_reward([expression], parsed(options), manager(), place)
    assert reward is not None
    if offload:
        _wait(reward)
    return reward


def scores_of(reward: WeightedSum, images: Tensor, prompt: str) -> list[float]:
    """Return the scores of ComfyUI's images ``[N, H, W, C]``."""
    samples = to_samples(images)
    return [float(score) for score in reward(samples, [Prompt(prompt)] * len(samples))]


def _wait(reward: RewardFunction) -> None:
    if isinstance(reward, Combination):
        for part in reward.parts:
            _wait(part)
    if hasattr(reward, "waits"):
        reward.waits = True
