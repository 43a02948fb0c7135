"""Scoring images in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from steer.evaluate.score.images import MAX_PIXELS, ImageError, Picture, read_image, size_of
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
    keep: Callable[[Sequence[Row]], object] = lambda rows: None,
) -> Iterator[Row | ImageError]:
    """Score images batch by batch; images of one size share a batch, of no more pixels than the largest image has.

    Args:
        paths: the files.
        rewards: by expression; each is reported separately.
        prompts: finds the prompts.
        batch: images per call.
        device: of the rewards.
        done: known rows by file; those that still apply are yielded unchanged.
        options: plugin options, kept with the scores.
        keep: gets the new rows of each batch, before they are yielded.

    Yields:
        One row per file, by size, or the error of a file that cannot be scored.

    Raises:
        SteerError: for an image without a prompt, or a reward that fails.
    """
    known, wanted = done or {}, plain(options or {})
    waiting: list[tuple[Path, Picture, Prompt]] = []

    def flush() -> Iterator[Row]:
        if not waiting:
            return
        samples = torch.stack([picture.pixels for _, picture, _ in waiting]).to(device)
        asked = [prompt for _, _, prompt in waiting]
        with torch.no_grad():
            scores = {name: reward(samples, asked).tolist() for name, reward in rewards.items()}
        rows = []
        for i, (path, picture, prompt) in enumerate(waiting):
            mine = {name: values[i] for name, values in scores.items()}
            rows.append(Row(str(path), str(prompt), mine, picture.digest, wanted, plain(prompt.metadata)))
        waiting.clear()
        keep(rows)
        yield from rows

    for path in sorted(paths, key=size_of):  # so that all of a size come together, and only one batch is in memory
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
        if waiting and waiting[0][1].pixels.shape != picture.pixels.shape:
            yield from flush()
        waiting.append((path, picture, prompt))
        if len(waiting) >= batch or picture.pixels[0].numel() * (len(waiting) + 1) > MAX_PIXELS:
            yield from flush()
    yield from flush()


def expressions_of(rewards: Sequence[str]) -> list[str]:
    """Return expressions, each once, after checking that they can be read.

    Raises:
        SteerError: for an invalid expression.
    """
    for text in rewards:
        list(leaves(parse_expression(text)))
    return list(dict.fromkeys(rewards))
