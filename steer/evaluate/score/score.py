"""Scoring images in batches, and videos one by one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from steer.evaluate.score.files import Clip, FileError, read_file
from steer.evaluate.score.images import size_of
from steer.evaluate.score.rows import Row, plain
from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum
from steer.rewards.expressions import leaves, parse_expression

BATCH_PIXELS = 4 * 1024**2
"""Pixels of a batch of several images. A batch takes 24 bytes per pixel: a reward gets a copy."""


class Prompts(Protocol):
    """Finds the prompts of files, as :class:`steer.evaluate.score.prompts.PromptSource` does."""

    def of(self, path: Path, texts: Mapping[str, str]) -> Prompt:
        """Return a file's prompt; ``texts`` are those in it."""


def score_files(
    paths: Sequence[Path],
    rewards: Mapping[str, WeightedSum],
    prompts: Prompts,
    *,
    batch: int = 16,
    device: torch.device | str = "cpu",
    done: Mapping[str, Row] | None = None,
    options: Mapping[str, Any] | None = None,
    keep: Callable[[Sequence[Row]], object] = lambda rows: None,
) -> Iterator[Row | FileError]:
    """Score files: images of one size in batches of at most :data:`BATCH_PIXELS`, each video alone, in its file.

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

    def scored(samples: Any, files: Sequence[tuple[Path, Prompt, str]]) -> Iterator[Row]:
        with torch.no_grad():
            texts = [prompt for _, prompt, _ in files]
            made = {name: reward.explained(samples, texts) for name, reward in rewards.items()}
        found = {name: (scores.tolist(), details) for name, (scores, details) in made.items()}
        rows = []
        for i, (path, prompt, digest) in enumerate(files):
            mine = {name: scores[i] for name, (scores, _) in found.items()}
            details = {name: told[i] for name, (_, told) in found.items() if told[i]}
            rows.append(Row(str(path), str(prompt), mine, digest, wanted, plain(prompt.metadata), details))
        keep(rows)
        yield from rows

    def flush() -> Iterator[Row]:
        if asked:
            yield from scored(pixels[: len(asked)].to(device), asked)
            asked.clear()

    # all of a size come together, so that only one batch is in memory; the largest first, whose memory fits the others
    for path in sorted(paths, key=size_of, reverse=True):
        try:
            found = read_file(path)
        except FileError as error:
            yield error
            continue
        prompt = prompts.of(path, found.texts)
        old = known.get(str(path))
        if old is not None and old.fits(found, prompt, rewards, wanted):
            yield old
            continue
        if isinstance(found, Clip):
            yield from scored(found.samples.to(device), [(path, prompt, found.digest)])
            continue
        if asked and pixels.shape[1:] != found.pixels.shape:
            yield from flush()
        if not asked:  # its rows take memory as they are filled
            most = max(1, min(batch, BATCH_PIXELS // found.pixels[0].numel()))
            pixels = torch.empty(most, *found.pixels.shape)
        pixels[len(asked)] = found.pixels
        asked.append((path, prompt, found.digest))
        del found
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
