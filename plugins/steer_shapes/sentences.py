"""Captions as texts: what a language model of the shapes world is trained on, and how its sentences are judged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .captions import sample_training


def captions() -> Callable[[np.random.Generator], str]:
    """Return a source of captions of the training split."""
    return lambda rng: sample_training(rng).text()
