"""What the trainings of plugins share."""

from __future__ import annotations

import json


def rows_until(log: str, step: int) -> str:
    """Return the rows of a training's ``log.jsonl`` up to a step.

    What a killed run logged after its last checkpoint is logged again by the one that goes on; a row that the kill cut
    off belongs to no step.
    """
    return "".join(f"{row}\n" for row in log.splitlines() if _step(row) <= step)


def _step(row: str) -> float:
    try:
        return float(json.loads(row)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
