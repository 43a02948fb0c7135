"""The memory that a model takes, from the configurations of its parts alone: nothing is loaded or fetched."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from steer.errors import SteerError, message_of
from steer.models.backbone import Backbone
from steer.models.placement import ENCODERS
from steer.models.room import bytes_of
from steer.models.single_file import part_dtype
from steer.settings.strict_json import read_object

BLOCK = 512
"""Bytes that CUDA's caching allocator rounds to."""


class LiveBytes:
    """Bytes of tensors, each storage counted once for as long as it lives.

    Attributes:
        now: live at the moment.
        peak: most that were live at once.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._seen = WeakIdKeyDictionary()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage until nothing refers to it."""
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self.now += size
        self.peak = max(self.peak, self.now)
        self._seen[storage] = weakref.ref(storage, lambda _: self._freed(size))

    def add_weights(self, modules: Iterable[nn.Module]) -> int:
        """Count modules' weights; return what is live now."""
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self.add(tensor)
        return self.now

    def _freed(self, size: int) -> None:
        self.now -= size


class _Counting(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = LiveBytes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.live.add(leaf)
        return out


class _Fused(TorchFunctionMode):
    """Attention as a GPU computes it, whose scores are never in memory all at once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, _, value = args[:3]
        return query.new_empty(*query.shape[:-1], value.shape[-1])


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model takes to make one image of its own size.

    Attributes:
        parts: of the weights of each part, by name.
        decoding: of the activations of decoding, which takes most; 0 if that is not known.
    """

    parts: dict[str, int]
    decoding: int

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return sum(self.parts.values())

    @property
    def in_turns(self) -> int:
        """Bytes if encoders and the other parts take turns."""
        encoders = sum(size for name, size in self.parts.items() if name.startswith(ENCODERS))
        return max(encoders, self.weights - encoders + self.decoding)

    @property
    def largest(self) -> tuple[str, int]:
        """The part that takes most by itself, with its activations if it decodes, and its bytes."""
        alone = {name: size + (self.decoding if name == "vae" else 0) for name, size in self.parts.items()}
        return max(alone.items(), key=lambda item: item[1])


def footprint(folder: Path, family: type[Backbone] | None) -> Footprint:
    """Return what a model takes in half precision.

    Args:
        folder: in diffusers format; weights need not be there.
        family: of the pipeline's class; ``None`` if it has none, and is called as a whole.

    Raises:
        SteerError: if a configuration is missing, not readable, or describes nothing that can be made.
    """
    try:
        return _footprint(folder, family)
    except SteerError:
        raise
    except Exception as error:  # of foreign configurations: as many kinds as there are classes
        raise SteerError(
            f"the configurations in {folder} describe no model that can be made ({type(error).__name__}: "
            f"{message_of(error)}); fetch or copy it again, or update diffusers"
        ) from error


def _footprint(folder: Path, family: type[Backbone] | None) -> Footprint:
    import diffusers

    index = _read(folder / "model_index.json")
    precision = Backbone.half if family is None else family.precision(family.half)
    left_out = frozenset() if family is None else Backbone.optional
    pipeline_class = getattr(diffusers, str(index["_class_name"]))
    parts: dict[str, Any] = dict.fromkeys(pipeline_class._get_signature_keys(pipeline_class)[0])
    for name in parts.keys() & index.keys() - left_out:
        library, kind = index[name] or ("", "")
        known = library in ("diffusers", "transformers")
        cls = getattr(importlib.import_module(library), kind or "", None) if known else None
        if cls is not None and name == "scheduler":
            parts[name] = cls.from_config(_read(folder / name / "scheduler_config.json"))
        elif isinstance(cls, type) and issubclass(cls, nn.Module):
            parts[name] = _hollow(cls, folder / name).to(part_dtype(precision, name)).eval()
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    sizes = {name: bytes_of([part]) for name, part in modules.items()}
    if family is None:
        return Footprint(sizes, 0)
    backbone = family(pipeline_class(**parts))  # type: ignore[call-arg]
    backbone.device = torch.device("meta")
    latents = torch.zeros(1, *backbone.latent_shape(None, None), device="meta")
    decoder = backbone.autoencoder
    with torch.no_grad(), _Counting() as counting, _Fused():
        held = counting.live.add_weights(modules.values())
        counting.live.add_weights([decoder])  # if it is a copy
        backbone.decode(latents)
    return Footprint(sizes, counting.live.peak - held)


def _read(file: Path) -> dict[str, Any]:
    return read_object(file, "configuration")


def _hollow(cls: Any, folder: Path) -> nn.Module:
    """Return a part without content, by its configuration."""
    config = _read(folder / "config.json")
    try:
        with torch.device("meta"):
            if hasattr(cls, "from_config"):
                return cls.from_config(config)  # type: ignore[no-any-return]
            return cls(cls.config_class.from_dict(config))  # type: ignore[no-any-return]
    except Exception as error:
        raise SteerError(
            f"{folder / 'config.json'} does not describe a {cls.__name__} ({message_of(error)})"
        ) from error
