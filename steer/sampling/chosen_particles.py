"""Choosing a prompt's result among its particles."""

from collections.abc import Sequence

import numpy as np

from steer.processes.noise import keyed
from steer.results.items import Sample
from steer.sampling.start import Job

CHOICES = ("best", "weighted", "all")
"""How to choose: by the highest reward, by chance in proportion to the weights, or all of them."""


def chosen_of(samples: Sequence[Sample], how: str, job: Job) -> tuple[int, ...]:
    """Return the indices of the chosen samples; ``how`` is one of :data:`CHOICES`."""
    if how == "all":
        return tuple(range(len(samples)))
    if how == "best":
        return (max(range(len(samples)), key=lambda i: _reward(samples[i])),)
    weights = np.array([sample.log_weight for sample in samples])
    weights = np.exp(weights - weights.max())
    generator = keyed(job.seed, job.prompt.id, "choose")
    return (int(generator.choice(len(samples), p=weights / weights.sum())),)


def _reward(sample: Sample) -> float:
    return float("-inf") if sample.reward is None else sample.reward
