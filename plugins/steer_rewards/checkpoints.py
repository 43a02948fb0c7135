"""Checkpoints from others: read without running code, checked tensor by tensor, and all or nothing.

A model is built :func:`empty`, which allocates no weights, and takes the file's tensors for its own (:func:`fill`).
Whatever is wrong with a file is told before the model has got anything of it::

    with empty():
        model = CLIPModel(config)
    fill(model, file, key_map=str.lower, dtype=torch.float32, device=device)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer import SteerError
from steer.plugin import message_of, read_tensors
from steer_rewards.settings import read_json

KeyMap = Callable[[str], str | None]
"""From a checkpoint's name of a tensor to the model's; ``None`` for one that the model has no use for."""

NAMED = 3
"""How many names of tensors a message shows."""


def empty() -> AbstractContextManager[None]:
    """Return a context in which models get parameters on the meta device, and buffers, which are small, real ones."""
    from accelerate import init_empty_weights

    context: AbstractContextManager[None] = init_empty_weights(include_buffers=False)
    return context


@contextlib.contextmanager
def described(config: Path) -> Iterator[None]:
    """Turn what libraries raise when a user's configuration makes no model into one line.

    Args:
        config: the file; where it does not exist, a published model is built, and an error is a bug.
    """
    try:
        yield
    except SteerError:
        raise
    except Exception as error:  # each library has classes of its own for this
        if not config.is_file():
            raise
        reason = message_of(error)
        raise SteerError(f"{config} describes no model that can be built ({type(error).__name__}: {reason})") from error


def read(file: Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read a checkpoint: safetensors, or a pickle of tensors and nothing else.

    Args:
        file: ``*.safetensors``, an index of shards (``*.index.json``), else a pickle of torch's.
        key: where in the pickle the state dict is (``"state_dict"``); a pickle without it is taken whole.

    Returns:
        Name to tensor, on the CPU; a pickle's tensors stay in the file until they are used.

    Raises:
        SteerError: naming the file, if it is truncated, holds code, or holds no state dict.
    """
    if file.name.endswith(".index.json"):
        return {name: tensor for shard in _shards(file) for name, tensor in read(shard, key=key).items()}
    return read_tensors(file, keys=[] if key is None else [key])


def of_folder(folder: Path) -> Path:
    """Return the file that :func:`read` takes in a folder in the format of transformers: shards' index or weights.

    Raises:
        SteerError: if the folder has neither.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        for file in (folder / name, folder / f"{name}.index.json"):
            if file.is_file():
                return file
    raise SteerError(f"{folder} has no weights; expected model.safetensors or pytorch_model.bin, whole or in shards")


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise SteerError(f"{index} has no weight_map; expected an index of shards")
    files = [index.with_name(Path(name).name) for name in dict.fromkeys(names.values())]  # a name, and no path
    for file in files:
        if not file.is_file():
            raise SteerError(f"{index} names the shard {file.name}, which is not there; fetch or copy it again")
    return files


def rename(state: Mapping[str, Tensor], key_map: KeyMap, file: Path | str) -> dict[str, Tensor]:
    """Give a checkpoint's tensors the model's names.

    Raises:
        SteerError: if two tensors get one name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = key_map(name)
        if new is None:
            continue
        if new in renamed:
            raise SteerError(f"checkpoint {file} has two tensors for {new}: the second is {name}")
        renamed[new] = tensor
    return renamed


def mismatch(expected: Mapping[str, torch.Size], state: Mapping[str, Tensor]) -> str | None:
    """Return in words how a state dict differs from the names and shapes that a model expects, if it does."""
    missing = [name for name in expected if name not in state]
    left_over = [name for name in state if name not in expected]
    shapes = [
        f"{name} {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}"
        for what, names in (("missing", missing), ("left over", left_over), ("of another shape", shapes))
        if names
    ]
    return "; ".join(parts) or None


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of a model's state dict by name, tied tensors under each of their names."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def fill(
    model: nn.Module, file: Path, *, key: str | None = None, key_map: KeyMap | None = None,
    tied: Mapping[str, str] | None = None, dtype: torch.dtype | None = None, device: torch.device | str = "cpu",
) -> None:  # fmt: skip
    """Give a model, as a rule an :func:`empty` one, a checkpoint's tensors; then freeze it for inference.

    Args:
        model: with a state dict of the names that ``key_map`` gives.
        file: see :func:`read`.
        key: see :func:`read`.
        key_map: from the checkpoint's names to the model's; by default they are the same.
        tied: the model's name of a tensor to that of the one whose values it has, for files that store them once.
        dtype: the precision that floating-point tensors get, single numbers excepted; the file's by default.
        device: where they go.

    Raises:
        SteerError: naming the file, if a tensor is missing, left over or of another shape; the model is as it was.
    """
    state = read(file, key=key)
    if key_map is not None:
        state = rename(state, key_map, file)
    for name, source in (tied or {}).items():
        if name not in state and source in state:
            state[name] = state[source]
    problem = mismatch(shapes_of(model), state)
    if problem:
        raise SteerError(f"checkpoint {file} does not fit {type(model).__name__}: {problem}")
    model.load_state_dict(_placed(state, dtype, device), assign=True)
    model.to(device).eval().requires_grad_(False)


def _placed(
    state: Mapping[str, Tensor], dtype: torch.dtype | None, device: torch.device | str
) -> dict[str, Tensor]:  # fmt: skip
    """Convert and move tensors; those that share memory, as tied ones do, go on sharing it.

    Single numbers keep their precision: exp(logit_scale) would be 1% off in bf16.
    """
    moved: dict[tuple[Any, ...], Tensor] = {}
    placed = {}
    for name, tensor in state.items():
        place = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        if place not in moved:
            moved[place] = tensor.to(device, dtype if tensor.is_floating_point() and tensor.dim() else None)
        placed[name] = moved[place]
    return placed
