"""Checks of a run before anything is computed."""

import warnings
from itertools import pairwise

from steer.errors import SteerError
from steer.models.device import memory_gb
from steer.sampling.run import Run


def warn_of_shared_noise(run: Run) -> None:
    """Warn if a text is sampled twice with slots that share seeds: those images are copies."""
    seeds: dict[str, list[int]] = {}
    for job in run.jobs:
        seeds.setdefault(str(job.prompt), []).append(job.seed)
    for text, known in seeds.items():
        known.sort()
        if any(b - a < run.particles for a, b in pairwise(known)):
            warnings.warn(
                f"prompt {text[:60]!r} is sampled several times with overlapping seeds (each takes "
                f"{run.particles}, from its seed on); some images will be equal",
                stacklevel=3,
            )


def check_memory(run: Run) -> None:
    """Refuse a population whose finished images alone are larger than this machine's memory.

    This is a lower bound: a run that passes may still run out of memory. But a typing error does not make the system
    kill the process without a message.
    """
    width, height, have = run.get("width"), run.get("height"), memory_gb()
    if width is None or height is None or have is None:
        return
    need = run.particles * 3 * 4 * width * height / 1e9
    if need > have:
        raise SteerError(
            f"{run.particles} particles of {width}x{height} pixels take at least {need:.0f} GB, this machine has "
            f"{have:.0f} GB; lower --size or --particles"
        )
