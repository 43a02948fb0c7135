"""Learning rates by step."""

import math


def warmup_cosine(step: int, *, steps: int, warmup: int, peak: float, floor: float = 0.01) -> float:
    """Return the learning rate of a step from 0 on: a linear warm-up, then a cosine down to ``floor`` of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
