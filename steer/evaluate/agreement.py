"""Comparing rewards on samples whose truth is known: agreement by category, time and memory."""

import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.rewards.checked import checked
from steer.rewards.reward import RewardFunction

ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """The result for one reward.

    Attributes:
        name: its expression.
        correlation: Spearman's rank correlation with the truth by category, ``"all"`` for all samples together;
            ``None`` if either is constant.
        batch_ms: median time of a batch in milliseconds.
        memory_mb: peak memory of loading and scoring, of the GPU if it runs there, else of the process.
        skipped: the reason if it could not be compared, else empty.
    """

    name: str
    correlation: dict[str, float | None]
    batch_ms: float | None = None
    memory_mb: float | None = None
    skipped: str = ""


def compare(
    name: str,
    make: Callable[[], RewardFunction],
    samples: Tensor,
    prompts: Sequence[Prompt],
    truth: Sequence[float],
    *,
    batch: int = 16,
) -> Comparison:
    """Load a reward, score all samples and compare with the truth; one that fails to load is skipped with a reason."""
    gc.collect()
    if samples.is_cuda:
        torch.cuda.reset_peak_memory_stats(samples.device)  # else the largest reward so far hides all later ones
    before = _memory_mb(samples.device)
    seconds, scores = [], []
    try:
        reward = make()
        for start in range(0, len(prompts), batch):
            begun = time.perf_counter()
            with torch.no_grad():
                part = checked(name, reward, samples[start : start + batch], prompts[start : start + batch])
                scores += part.tolist()  # waits for the GPU
            seconds.append(time.perf_counter() - begun)
    except SteerError as error:
        return Comparison(name, {}, skipped=str(error))
    return Comparison(
        name,
        correlations(scores, truth, [prompt.category for prompt in prompts]),
        1000 * statistics.median(seconds),
        max(0.0, _memory_mb(samples.device) - before),
    )


def correlations(
    scores: Sequence[float], truth: Sequence[float], categories: Sequence[str | None]
) -> dict[str, float | None]:
    """Return Spearman's rank correlation for all rows and for each category."""
    found = {ALL: _spearman(scores, truth)}
    for category in dict.fromkeys(c for c in categories if c is not None):
        rows = [i for i, c in enumerate(categories) if c == category]
        found[category] = _spearman([scores[i] for i in rows], [truth[i] for i in rows])
    return found


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    from scipy.stats import spearmanr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant column: that is None
        value = float(spearmanr(first, second).statistic) if len(first) > 1 else math.nan
    return None if math.isnan(value) else value


def _memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):  # not Linux
        return 0.0
    return pages * 4096 / 1e6
