"""The shipped prompt files; ``python -m steer_shapes.prompts --out prompts`` writes them again.

Three disjoint sets: examples from the training split, and the ``tune`` and ``eval`` splits, which no
training set contains (see :func:`steer_shapes.captions.split_of`).
"""

from pathlib import Path

import click
import numpy as np

from steer.plugin import json_text

from .captions import sample_requirements
from .grammar import CATEGORIES

FILES: dict[str, tuple[str, str, int]] = {
    "shapes.jsonl": ("example", "train", 4),
    "shapes-tune.jsonl": ("tune", "tune", 10),
    "shapes-eval.jsonl": ("eval", "eval", 40),
}
"""File name to its prefix of ids, split, and prompts per category."""


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


def file_text(name: str) -> str:
    """Return the content of one of :data:`FILES`, one JSON object per line."""
    return "".join(f"{json_text(row)}\n" for row in prompt_rows(*FILES[name]))


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("prompts"),
    show_default=True,
    help="Folder to write the three files to.",
)
def main(out: Path) -> None:
    """Write the prompt files of the shapes world."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).write_text(file_text(name), encoding="utf-8")
        click.echo(f"{out / name}: {len(file_text(name).splitlines())} prompts")


if __name__ == "__main__":
    main()
