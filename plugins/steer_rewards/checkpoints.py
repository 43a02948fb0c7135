"""Third-party checkpoints: read without running code, checked tensor by tensor, loaded completely or not at all.

A model is built :func:`empty`, without allocating weights, and then takes over the file's tensors (:func:`fill`). Any
error in a file is raised before the model changes::

    with empty():
        model = CLIPModel(config)
    fill(model, file, key_map=str.lower, dtype=torch.float32, device=device)
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer import SteerError
from steer.plugin import message_of, mismatch, read_object, read_tensors

KeyMap = Callable[[str], str | None]
"""From a checkpoint's name of a tensor to the model's; ``None`` if the model does not need the tensor."""


def empty() -> AbstractContextManager[None]:
    """Return a context in which models get parameters on the meta device; buffers are small, and stay real."""
    from accelerate import init_empty_weights

    context: AbstractContextManager[None] = init_empty_weights(include_buffers=False)
    return context


@contextlib.contextmanager
def described(config: Path) -> Iterator[None]:
    """Turn any library's error about a user's configuration into a one-line :class:`SteerError`.

    Args:
        config: the file; if it does not exist, a published model is built, and an error is a bug.
    """
    try:
        yield
    except SteerError:
        raise
    except Exception as error:  # each library has its own classes for this
        if not config.is_file():
            raise
        reason = message_of(error)
        raise SteerError(f"{config} does not describe a valid model ({type(error).__name__}: {reason})") from error


def read(file: Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read a checkpoint: safetensors, or a pickle that holds only tensors.

    Args:
        file: ``*.safetensors``, an index of shards (``*.index.json``), else torch's pickle format.
        key: the pickle's key of the state dict (``"state_dict"``); without that key, the whole pickle is read.

    Returns:
        Name to tensor, on the CPU; a pickle's tensors are read from the file on use.

    Raises:
        SteerError: naming the file, if it is truncated, contains code, or has no state dict.
    """
    if file.name.endswith(".index.json"):
        return {name: tensor for shard in _shards(file) for name, tensor in read(shard, key=key).items()}
    return read_tensors(file, keys=[] if key is None else [key])


def of_folder(folder: Path) -> Path:
    """Return the weights file, or the index of its shards, in a folder in transformers' format.

    Raises:
        SteerError: if the folder has neither.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        for file in (folder / name, folder / f"{name}.index.json"):
            if file.is_file():
                return file
    raise SteerError(f"{folder} has no weights; expected model.safetensors or pytorch_model.bin, whole or in shards")


def _shards(index: Path) -> list[Path]:
    names = read_object(index, "config").get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise SteerError(f"{index} has no weight_map; expected an index of shards")
    files = [index.with_name(Path(name).name) for name in dict.fromkeys(names.values())]  # names only, no paths
    for file in files:
        if not file.is_file():
            raise SteerError(f"{index} names the shard {file.name}, which does not exist; fetch or copy it again")
    return files


def rename(state: Mapping[str, Tensor], key_map: KeyMap, file: Path | str) -> dict[str, Tensor]:
    """Give a checkpoint's tensors the model's names.

    Raises:
        SteerError: if two tensors get the same name.
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


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of a model's state dict by name; tied tensors appear under each of their names."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def fill(
    model: nn.Module, file: Path, *, key: str | None = None, key_map: KeyMap | None = None,
    tied: Mapping[str, str] | None = None, dtype: torch.dtype | None = None, device: torch.device | str = "cpu",
) -> None:  # fmt: skip
    """Load a checkpoint's tensors into a model, usually an :func:`empty` one, and freeze it for inference.

    Args:
        model: its state dict has the names that ``key_map`` returns.
        file: see :func:`read`.
        key: see :func:`read`.
        key_map: from the checkpoint's names to the model's; by default they are the same.
        tied: name of a tied tensor to the name of its source, for files that store both once.
        dtype: precision of floating-point tensors, except single numbers; the file's by default.

    Raises:
        SteerError: naming the file, if a tensor is missing, left over or of another shape; the model is unchanged.
    """
    state = read(file, key=key)
    if key_map is not None:
        state = rename(state, key_map, file)
    for name, source in (tied or {}).items():
        if name not in state and source in state:
            state[name] = state[source]
    problem = mismatch(shapes_of(model), {name: tensor.shape for name, tensor in state.items()})
    if problem:
        raise SteerError(f"checkpoint {file} does not fit {type(model).__name__}: {problem}")
    model.load_state_dict(_placed(state, dtype, device), assign=True)
    model.to(device).eval().requires_grad_(False)


def _placed(
    state: Mapping[str, Tensor], dtype: torch.dtype | None, device: torch.device | str
) -> dict[str, Tensor]:  # fmt: skip
    """Convert and move tensors; those that share memory, such as tied ones, still share it afterward.

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
