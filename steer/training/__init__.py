"""What the trainings of plugins share."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer.training.training import begun_average as begun_average
    from steer.training.training import check_begins as check_begins
    from steer.training.training import check_finite as check_finite
    from steer.training.training import check_same as check_same
    from steer.training.training import kept as kept
    from steer.training.training import mean_over_processes as mean_over_processes
    from steer.training.training import move_average as move_average
    from steer.training.training import read_checkpoint as read_checkpoint
    from steer.training.training import replaced_folder as replaced_folder
    from steer.training.training import rows_until as rows_until
    from steer.training.training import save_checkpoint as save_checkpoint
    from steer.training.training import warmup_cosine as warmup_cosine
    from steer.training.training import write_whole as write_whole

# Loaded at first use: listing plugins or printing help must not wait for torch.
_HOMES = {
    # Training
    "begun_average": "steer.training.training",
    "check_begins": "steer.training.training",
    "check_finite": "steer.training.training",
    "check_same": "steer.training.training",
    "kept": "steer.training.training",
    "mean_over_processes": "steer.training.training",
    "move_average": "steer.training.training",
    "read_checkpoint": "steer.training.training",
    "replaced_folder": "steer.training.training",
    "rows_until": "steer.training.training",
    "save_checkpoint": "steer.training.training",
    "warmup_cosine": "steer.training.training",
    "write_whole": "steer.training.training",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
