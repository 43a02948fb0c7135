"""Shared parts of the benchmarks: measures of images, and writing a section of docs/results.md."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor

from steer.evaluate.statistics import bootstrap_mean
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.results.storage import write_atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results.md"
CATEGORIES = ("color", "shape", "texture", "numeracy", "spatial", "complex")


class Embedding:
    """The embedded CLIP's image half."""

    def __init__(self) -> None:
        import open_clip

        folder = manager().registry.get("clip", "shapes").load()()
        self.clip, self.transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        self.clip.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Return normalized embeddings ``[N, D]`` of images ``[N, 3, 64, 64]`` in [0, 1]."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in
                     (self.transform.transforms[-1].mean, self.transform.transforms[-1].std))  # fmt: skip
        embedded: Tensor = self.clip.encode_image((images - mean) / std, normalize=True)
        return embedded.double().numpy()


def real_scenes(count: int, seed: int = 0) -> Tensor:
    """Draw scenes of held-out captions, as many of each category, ``[count, 3, 64, 64]`` in [0, 1]."""
    from steer_shapes.layout import draw_scene
    from steer_shapes.render import render_batch

    rng = np.random.default_rng(seed)
    categories = (CATEGORIES[number % len(CATEGORIES)] for number in range(count))
    scenes = [draw_scene(rng, split="eval", category=category)[1] for category in categories]
    return torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float() / 255


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of features (arXiv 1706.08500)."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root))


def interval(values: Sequence[float] | NDArray[Any]) -> str:
    """Return mean and 95% interval."""
    found = bootstrap_mean([float(value) for value in values])
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def ratio(first: NDArray[Any], second: NDArray[Any], draws: int = 10_000) -> tuple[float, float, float]:
    """Return the ratio of two means with its 95% percentile bootstrap interval, paired over prompts."""
    counts = np.random.default_rng(0).multinomial(len(first), np.full(len(first), 1 / len(first)), size=draws)
    low, high = np.quantile((counts @ first) / (counts @ second), [0.025, 0.975])
    return float(first.mean() / second.mean()), float(low), float(high)


def spread(prompts: Sequence[Prompt], count: int | None) -> list[Prompt]:
    """Return so many prompts, evenly: of a file in which categories follow each other, as many of each."""
    if count is None or count >= len(prompts):
        return list(prompts)
    return [prompts[place * len(prompts) // count] for place in range(count)]


def write_section(text: str, begin: str, end: str) -> None:
    """Put a section into docs/results.md; benchmarks that end at once take turns."""
    folder = os.open(RESULTS.parent, os.O_RDONLY)  # the file itself is replaced by every writer, and its lock with it
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        write_atomic(RESULTS, put(text, RESULTS.read_text(encoding="utf-8"), begin, end).encode())
    finally:
        os.close(folder)


def put(text: str, into: str, begin: str, end: str) -> str:
    """Replace the section between two markers, which ``text`` brings along, or append it."""
    if begin in into and end in into:
        return into[: into.index(begin)] + text + into[into.index(end) + len(end) :]
    return f"{into.rstrip()}\n\n{text}\n"
