"""Scoring images in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from steer.evaluate.score.images import read_image, size_of
from steer.evaluate.score.prompts import PromptSource
from steer.evaluate.score.rows import Row, plain
from steer.prompts.pictures.opening import ImageError
from steer.prompts.prompt import Prompt
from steer.rewards.expressions import leaves, parse_expression
from steer.rewards.reward import WeightedSum

BATCH_PIXELS = 4 * 1024**2
"""Pixels of a batch of several images. A batch takes 24 bytes per pixel: a reward gets a copy."""


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
    """Score images batch by batch; images of one size share a batch of at most :data:`BATCH_PIXELS`.

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
    asked: list[tuple[Path, Prompt, str]] = []
    pixels = torch.empty(0)

    def flush() -> Iterator[Row]:
        if not asked:
            return
        samples = pixels[: len(asked)].to(device)
        with torch.no_grad():
            texts = [prompt for _, prompt, _ in asked]
            scores = {name: reward(samples, texts).tolist() for name, reward in rewards.items()}
        rows = []
        for i, (path, prompt, digest) in enumerate(asked):
            mine = {name: values[i] for name, values in scores.items()}
            rows.append(Row(str(path), str(prompt), mine, digest, wanted, plain(prompt.metadata)))
        asked.clear()
        keep(rows)
        yield from rows

    # all of a size come together, so that only one batch is in memory; the largest first, whose memory fits the others
    for path in sorted(paths, key=size_of, reverse=True):
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
        if asked and pixels.shape[1:] != picture.pixels.shape:
            yield from flush()
        if not asked:  # its rows take memory as they are filled
            most = max(1, min(batch, BATCH_PIXELS // picture.pixels[0].numel()))
            pixels = torch.empty(most, *picture.pixels.shape)
        pixels[len(asked)] = picture.pixels
        asked.append((path, prompt, picture.digest))
        del picture
        if len(asked) == len(pixels):
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
