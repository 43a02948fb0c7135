"""The shipped prompt files; ``python -m steer_shapes.prompts --out prompts`` writes them again.

Three disjoint sets: examples from the training split, and the ``tune`` and ``eval`` splits, which no
training set contains (see :func:`steer_shapes.captions.split_of`). The last two for moving shapes too.
"""

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from steer.plugin import json_text

from .captions import sample_requirements
from .grammar import CATEGORIES
from .moving import held_out
from .scenes import SIZES

FILES: dict[str, tuple[str, str, int]] = {
    "shapes.jsonl": ("example", "train", 4),
    "shapes-tune.jsonl": ("tune", "tune", 10),
    "shapes-eval.jsonl": ("eval", "eval", 40),
}
"""File name to its prefix of ids, split, and prompts per category."""
VIDEO_FILES = {"shapes-video-tune.jsonl": "tune", "shapes-video-eval.jsonl": "eval"}
"""File name to its split of moving shapes: of color, shape and motion, whatever the size."""


def prompt_rows(prefix: str, split: str, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return ``count`` different prompts of each category, with id, prompt and category."""
    rows = []
    for index, category in enumerate(CATEGORIES):
        rng = np.random.default_rng([seed, index])
        texts: dict[str, None] = {}
        while len(texts) < count:
            texts[sample_requirements(category, rng, split).text()] = None
        for number, text in enumerate(texts, 1):
            name = f"{prefix}-{category}-{number:02d}"
            rows.append({"id": name, "prompt": text, "category": category})
    return rows


def video_rows(split: str) -> list[dict[str, str]]:
    """Return two sentences for each combination of color, shape and motion of a split, with id, prompt and category:
    one without a size, one with a size."""
    rows: list[dict[str, str]] = []
    for index, asked in enumerate(held_out(split)):
        for size in (None, SIZES[index % 2]):
            text = replace(asked, phrase=replace(asked.phrase, size=size)).text()
            name = f"{split}-video-{len(rows) + 1:02d}"
            rows.append({"id": name, "prompt": text, "category": asked.motion})
    return rows


def file_text(name: str) -> str:
    """Return the content of one of :data:`FILES` or :data:`VIDEO_FILES`, one JSON object per line."""
    rows = video_rows(VIDEO_FILES[name]) if name in VIDEO_FILES else prompt_rows(*FILES[name])
    return "".join(f"{json_text(row)}\n" for row in rows)


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("prompts"),
    show_default=True,
    help="Folder to write the files to.",
)
def main(out: Path) -> None:
    """Write the prompt files of the shapes world."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, *VIDEO_FILES):
        (out / name).write_text(file_text(name), encoding="utf-8")
        click.echo(f"{out / name}: {len(file_text(name).splitlines())} prompts")


if __name__ == "__main__":
    main()
