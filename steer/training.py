"""What the trainings of plugins share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from steer.errors import SteerError

if TYPE_CHECKING:
    from accelerate import Accelerator


def warmup_cosine(step: int, *, steps: int, warmup: int, peak: float) -> float:
    """Return the learning rate of a step from 0 on: a linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


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


def mean_over_processes(accelerator: Accelerator, values: Mapping[str, float]) -> dict[str, float]:
    """Return what was measured on a batch, the mean over all processes; each must ask with the same names."""
    if accelerator.num_processes == 1:
        return dict(values)
    import torch

    row = torch.tensor(list(values.values()), device=accelerator.device)
    return dict(zip(values, accelerator.reduce(row, "mean").tolist(), strict=True))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path`` and rename, so that an interruption or a full disk leaves the old file whole.

    One process writes a path.

    Raises:
        SteerError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # what a killed run left
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        with suppress(OSError):  # not every mount has modes
            temporary.chmod(mode)  # safetensors writes files that only their owner can read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # a power cut must not leave the new name on an empty file
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SteerError(f"{path} cannot be written ({reason}); make room, or choose another --out") from error
    finally:
        with suppress(OSError):  # what went wrong first is what is told
            temporary.unlink(missing_ok=True)


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write what a resumed run needs, by :func:`write_whole`."""
    write_whole(path, lambda beside: _save(state, beside))


def _save(state: Mapping[str, Any], path: Path) -> None:
    import torch

    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # a full disk, upon which torch cannot end its archive either
            raise error.__context__ from None
        raise
