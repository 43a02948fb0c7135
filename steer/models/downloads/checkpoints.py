"""Reading untrusted checkpoints: tensors by name, without running code."""

from __future__ import annotations

import functools
import hashlib
import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError, message_of

DAMAGE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)
"""What torch raises for files that are no checkpoints."""
NAMED = 3
"""Tensors that a message names."""


def read_tensors(file: Path, *, keys: Sequence[str] = (), what: str = "checkpoint") -> dict[str, Tensor]:
    """Read a state dict: safetensors, or a pickle of tensors and nothing else.

    Args:
        file: ``*.safetensors``, else a pickle of torch's.
        keys: possible keys of the state dict in a pickle, of which the first present one counts; without any, the whole
            pickle is the state dict.
        what: the file's kind, for messages.

    Returns:
        Name to tensor, on the CPU; a pickle's tensors stay in the file until they are used.

    Raises:
        SteerError: naming the file, if it does not exist, is truncated, holds code, or holds no state dict.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise SteerError(f"{what} {file} does not exist")
    try:
        content = load_file(file) if file.suffix == ".safetensors" else _unpickled(file)
    except (*DAMAGE, SafetensorError, pickle.UnpicklingError) as error:
        # torch's message about a pickle with code is a page long, and advises to run the code
        code = isinstance(error, pickle.UnpicklingError)
        reason = "no pickle of tensors alone" if code else message_of(error, 120)
        advice = "take it as .safetensors, or fetch" if code else "fetch"
        raise SteerError(
            f"{what} {file} cannot be read ({reason}); it is truncated or not a checkpoint: {advice} or copy it again"
        ) from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in keys if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise SteerError(f"{what} {file} holds no state dict; expected names with their tensors")
    return {str(name): tensor for name, tensor in content.items()}


def shapes_of(file: Path, *, keys: Sequence[str] = (), what: str = "checkpoint") -> dict[str, tuple[int, ...]]:
    """Return the shapes of a state dict's tensors by name; of safetensors, only the header is read.

    Raises:
        SteerError: see :func:`read_tensors`.
    """
    from safetensors import SafetensorError, safe_open

    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt") as content:
                return {name: tuple(content.get_slice(name).get_shape()) for name in list(content.keys())}
        except (OSError, SafetensorError):
            pass  # reported below
    return {name: tuple(tensor.shape) for name, tensor in read_tensors(file, keys=keys, what=what).items()}


def check_ending(file: Path, what: str) -> None:
    """Raise for an ending by which libraries do not know safetensors or GGUF: ``.sft``, or capitals."""
    ending = file.suffix.lower().replace(".sft", ".safetensors")
    if file.suffix != ending and ending in (".safetensors", ".gguf"):
        raise SteerError(f"{what} {str(file)!r} is known by its ending: rename it to {file.with_suffix(ending).name}")


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file; it is read once per process unless it changes."""
    return _sha256_of(file.resolve(), file.stat().st_mtime_ns)


@functools.lru_cache(256)
def _sha256_of(file: Path, _changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mismatch(expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> str | None:
    """Describe how the shapes of tensors by name differ from those that a model expects; ``None`` if they do not."""
    shapes = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    missing, left_over = [n for n in expected if n not in found], [n for n in found if n not in expected]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}"
        for what, names in (("missing", missing), ("left over", left_over), ("of another shape", shapes))
        if names
    ]
    return "; ".join(parts) or None


def _unpickled(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
    return torch.load(file, map_location="cpu", weights_only=True)  # the format of torch before 1.6
