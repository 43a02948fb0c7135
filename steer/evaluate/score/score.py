"""Scoring images in batches."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from steer.evaluate.score.images import ImageError, Picture, read_image
from steer.evaluate.score.prompts import PromptSource
from steer.evaluate.score.rows import Row, plain
from steer.prompts.prompt import Prompt
from steer.rewards.expressions import leaves, parse_expression
from steer.rewards.reward import WeightedSum


def score_images(
    paths: Sequence[Path],
    rewards: Mapping[str, WeightedSum],
    prompts: PromptSource,
    *,
    batch: int = 16,
    device: torch.device | str = "cpu",
    done: Mapping[str, Row] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Row | ImageError]:
    """Score images batch by batch; images of one size share a batch.

    Args:
        paths: the files.
        rewards: by expression; each is reported separately.
        prompts: finds the prompts.
        batch: images per call.
        device: of the rewards.
        done: known rows by file; those that still apply are yielded unchanged.
        options: plugin options, kept with the scores.

    Yields:
        One row per file, in the order in which batches fill, or the error of a file that cannot be scored.

    Raises:
        SteerError: for an image without a prompt, or a reward that fails.
    """
    known, wanted = done or {}, plain(options or {})
    waiting: dict[tuple[int, ...], list[tuple[Path, Picture, Prompt]]] = {}

    def flush(rows: list[tuple[Path, Picture, Prompt]]) -> Iterator[Row]:
        samples = torch.stack([picture.pixels for _, picture, _ in rows]).to(device)
        with torch.no_grad():
            scores = {name: reward(samples, [p for _, _, p in rows]).tolist() for name, reward in rewards.items()}
        for i, (path, picture, prompt) in enumerate(rows):
            mine = {name: values[i] for name, values in scores.items()}
            yield Row(str(path), str(prompt), mine, picture.digest, wanted, plain(prompt.metadata))

    for path in paths:
        try:
            picture = read_image(path)
        except ImageError as error:
            yield error
            continue
        prompt = prompts.of(path, picture.texts)
        old = known.get(str(path))
        if old is not None and old.fits(picture, prompt, rewards, wanted):
            yield old
            continue
        group = waiting.setdefault(tuple(picture.pixels.shape), [])
        group.append((path, picture, prompt))
        if len(group) == batch:
            yield from flush(waiting.pop(tuple(picture.pixels.shape)))
    for group in waiting.values():
        yield from flush(group)


def expressions_of(rewards: Sequence[str]) -> list[str]:
    """Return expressions, each once, after checking that they can be read.

    Raises:
        SteerError: for an invalid expression.
    """
    for text in rewards:
        list(leaves(parse_expression(text)))
    return list(dict.fromkeys(rewards))
