"""What the trainings of plugins share."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from steer.errors import SteerError, message_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn


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


def check_begins(checkpoint: Path, *, resume: bool) -> None:
    """Check that a folder holds no run yet or, on resuming, one.

    Raises:
        SteerError: saying which of the two it is not.
    """
    if checkpoint.exists() and not resume:
        raise SteerError(f"{checkpoint.parent} holds a run already; go on with --resume, or choose another --out")
    if resume and not checkpoint.exists():
        raise SteerError(f"--resume: {checkpoint.parent} holds no run to go on with; leave it out to begin one")


def read_checkpoint(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, running no code; ``names`` are those that it must have.

    Raises:
        SteerError: if it is damaged, or of another training.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails in a dozen ways
        reason = message_of(error, 100)
        raise SteerError(
            f"{path} cannot be read ({reason}); delete it to begin anew, or choose another --out"
        ) from None
    if not isinstance(state, dict) or not set(names) <= state.keys():
        raise SteerError(f"{path} is no checkpoint of this training; choose another --out")
    return state


def check_same(theirs: Mapping[str, Any], ours: Mapping[str, Any], folder: Path, *, but: Collection[str] = ()) -> None:
    """Check that a run goes on by the recipe that it was begun by.

    Args:
        theirs: the recipe as its checkpoint or a file of JSON has it.
        ours: the recipe asked for.
        folder: of the run.
        but: what may differ.

    Raises:
        SteerError: naming what differs.
    """
    for name, value in json.loads(json.dumps(ours)).items():  # tuples are lists there
        if name not in but and theirs.get(name) != value:
            raise SteerError(
                f"--resume: the run in {folder} has {name}={theirs.get(name)!r}, now it is {value!r}; give the same "
                "value, or choose another --out"
            )


def begun_average(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's weights as the begin of their moving average, in fp32."""
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def move_average(average: Mapping[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Move an exponential average towards a module's weights, in place, after step number ``step``, from 0 on."""
    import torch

    keep = kept(step, decay)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value.to(average[name]), 1 - keep)
            else:
                average[name].copy_(value)


def kept(step: int, decay: float) -> float:
    """Return what an average keeps of itself: its memory grows with the run, up to ``decay``."""
    return min(decay, (1 + step) / (10 + step))


def check_finite(loss: Tensor, step: int, remedy: str = "begin anew in another --out with a lower --rate") -> None:
    """Raise if a training has diverged.

    Raises:
        SteerError: naming the step and the remedy.
    """
    if not bool(loss.isfinite()):
        raise SteerError(f"the loss of step {step} is not finite, the training has diverged: {remedy}")


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
        reason = getattr(error, "strerror", None) or message_of(error)
        raise SteerError(f"{path} cannot be written ({reason}); make room, or choose another --out") from error
    finally:
        with suppress(OSError):  # what went wrong first is what is told
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path`` to write into, and put it in its place at the end of the block.

    An error leaves the old folder as it was; what a kill in the very moment of the exchange leaves, the next call
    puts right.
    """
    path = path.resolve()  # of a link, the folder that it leads to
    fresh, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)


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
