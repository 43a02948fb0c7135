"""An accelerator that is not there: its tensors live on the CPU, and keep a device's rules.

Within :func:`pretended`, ``"cuda"`` (or ``"mps"``) can be named wherever torch takes a device. What a real device would
refuse is an error here too, in torch's words: mixing devices, a generator of another device, ``numpy()`` without
``cpu()``, float64 on MPS. What the host waits for, and what is copied to the device, is counted.

The rules are those of torch 2.15: an operation takes tensors of one device; beside them a pointwise one takes CPU
tensors without dimensions, as numbers; indices into the device's tensors may be on the CPU, and are copied.
Not pretended: generators of the device, memory, streams, operations that change a tensor's shape in place.
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
STAND_IN = "pretended"
"""What torch itself calls the device: its back end for those that are written in Python, so that autograd works."""
DOUBLE = (torch.float64, torch.complex128)
INDEXING = (
    aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default, aten._unsafe_index_put.default,
)  # fmt: skip
TAKES_NUMBERS = (aten.fill_.Tensor, aten.fill.Tensor, aten.masked_fill.Tensor, aten.masked_fill_.Tensor)
"""Operations that are not pointwise by torch's tags and take a CPU tensor without dimensions all the same."""
COPYING = (aten._to_copy.default, aten.copy_.default)
REAL = torch.accelerator.current_accelerator(check_available=True)
"""The machine's own accelerator."""
CUDA = "cuda" if REAL is None else REAL.type
STRICT = "mps" if REAL is None else REAL.type
"""The device with the most rules: Apple's keeps CUDA's, and has no float64 besides."""
PRODUCT = [str(Path(__file__).parents[2] / folder) for folder in ("steer", "plugins")]


@dataclass
class Traffic:
    """What went between the host and the device, by the lines of the product that caused it.

    Attributes:
        syncs: times that the host waited for the device: numbers asked for, copies to the CPU, shapes that depend on
            values.
        uploads: copies from the CPU to the device.
    """

    syncs: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> tuple[int, int]:
        """Syncs and uploads so far."""
        return self.syncs.total(), self.uploads.total()


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to all leaves; torch's own does the same for any structure, ten times slower."""
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(function, part) for part in value])
    if isinstance(value, dict):
        return {name: mapped(function, part) for name, part in value.items()}
    return function(value)


def _found(value: Any, tensors: list[Tensor], generators: list[torch.Generator]) -> None:
    """Collect the tensors and the generators among arguments."""
    kind = type(value)
    if kind is Pretended or isinstance(value, Tensor):
        tensors.append(value)
    elif kind is list or kind is tuple:
        for part in value:
            _found(part, tensors, generators)
    elif kind is dict:
        _found(list(value.values()), tensors, generators)
    elif kind is torch.Generator:
        generators.append(value)


def _held(value: Any) -> Any:
    """Return arguments with the tensors that are held in place of the device's."""
    kind = type(value)
    if kind is Pretended:
        return value.held
    if kind is list or kind is tuple:
        return kind([_held(part) for part in value])
    return {name: _held(part) for name, part in value.items()} if kind is dict else value


def _moved_nowhere(held: Tensor) -> Tensor:
    """Return a copy of the same layout, for a move to the device where a tensor is: a real one would return itself."""
    storage = held.untyped_storage().clone()
    return torch.empty(0, dtype=held.dtype).set_(storage, held.storage_offset(), held.size(), held.stride())


class Pretended(Tensor):
    """A tensor of the device. ``held`` is the tensor on the CPU."""

    held: Tensor
    world: World

    @staticmethod
    def __new__(cls, held: Tensor, world: World | None = None, requires_grad: bool = False) -> Any:
        if world is None:  # accelerate makes parameters by the class of those that they take the place of
            return torch.nn.Parameter(held, requires_grad)
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: Pretended = Tensor._make_wrapper_subclass(cls, held.size(), device=f"{STAND_IN}:0", **layout)
        made.held, made.world = held, world
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors: list[Tensor] = []
        _found((args, kwargs), tensors, [])
        world = next(tensor.world for tensor in tensors if isinstance(tensor, Pretended))
        return world.run(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, value: Tensor) -> None:  # which may be of another type
        Tensor.data.__set__(self, value)
        self.held = value.held if isinstance(value, Pretended) else value

    @property
    def device(self) -> torch.device:
        return self.world.device

    @property
    def is_cuda(self) -> bool:
        return self.world.device.type == "cuda"

    @property
    def is_mps(self) -> bool:
        return self.world.device.type == "mps"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        kind = self.device if self.is_cuda else self.device.type
        raise TypeError(
            f"can't convert {kind} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            "first."
        )

    __array__ = numpy

    def __repr__(self, **_: Any) -> str:
        return f"{self.device} {self.held!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            made = Pretended(copy.deepcopy(self.held.detach(), memo), self.world)
            made = torch.nn.Parameter(made) if isinstance(self, torch.nn.Parameter) else made
            memo[id(self)] = made.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().cpu().__reduce_ex__(protocol)


class World:
    """A device of a kind, and what went on there.

    Attributes:
        replaced: functions of torch that are others on this device.
    """

    replaced: ClassVar[Mapping[Any, Callable[..., Any]]] = {}

    def __init__(self, kind: str) -> None:
        self.device, self.names = torch.device(kind, 0), (kind, STAND_IN)
        self.traffic = Traffic()

    def means(self, device: Any) -> bool:
        """Whether something names this device."""
        kind = type(device)
        return (kind is str or kind is torch.device) and str(device).partition(":")[0] in self.names

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Compute on the CPU what torch asks of the device."""
        tensors: list[Tensor] = []
        generators: list[torch.Generator] = []
        _found((args, kwargs), tensors, generators)
        here = any(type(tensor) is Pretended for tensor in tensors)
        asked = kwargs.get("device")
        there = here if asked is None else self.means(asked)
        if func in COPYING:
            self._note_copy(func, args, there)
        elif here:
            self._check_devices(func, args, tensors)
            self._note_wait(func, args, kwargs)
        if generators and there:
            raise RuntimeError(
                f"Expected a '{self.device.type}' device type for generator but found '{generators[0].device.type}'"
            )
        out = self.compute(func, args, kwargs, there=there)
        if not there:
            return out
        # an operation in place returns the tensor that it changed
        own = {id(tensor.held): tensor for tensor in tensors if type(tensor) is Pretended}
        return mapped(lambda leaf: self._returned(leaf, own), out)

    def compute(self, func: Any, args: Any, kwargs: dict[str, Any], *, there: bool) -> Any:
        """Compute with the tensors that are held; ``there`` says whether the result is on the device."""
        moved = func is aten._to_copy.default and there and type(args[0]) is Pretended
        if moved and kwargs.get("dtype") in (None, args[0].dtype):
            return _moved_nowhere(args[0].held)
        args, kwargs = _held(args), _held(kwargs)
        if there and kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **kwargs)

    def _returned(self, leaf: Any, own: dict[int, Pretended]) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if self.device.type == "mps" and leaf.dtype in DOUBLE:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                "Please use float32 instead."
            )
        # torch's kernels are called below the layer that minds a lazy conjugate or sign
        return own[id(leaf)] if id(leaf) in own else Pretended(leaf.resolve_conj().resolve_neg(), self)

    def _note_copy(self, func: Any, args: Any, there: bool) -> None:
        target, source = (
            (there, args[0]) if func is aten._to_copy.default else (isinstance(args[0], Pretended), args[1])
        )
        if (type(source) is Pretended) != target:
            (self.traffic.uploads if target else self.traffic.syncs)[_site()] += 1

    def _note_wait(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if func in INDEXING:
            indices = [index for index in args[1] if isinstance(index, Tensor)]
            for index in indices:
                self.traffic.uploads[_site()] += not isinstance(index, Pretended)
            masked = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
            one_number = "put" in func._schema.name and args[2].numel() == 1  # a fill by the mask
            self.traffic.syncs[_site()] += masked and not one_number
        elif {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            self.traffic.syncs[_site()] += kwargs.get("output_size") is None
        if torch.Tag.inplace_view in func.tags:
            raise NotImplementedError(f"{func} on a pretended device")

    def _check_devices(self, func: Any, args: Any, tensors: list[Tensor]) -> None:
        indices = args[1] if func in INDEXING else ()
        if indices and not isinstance(args[0], Pretended) and any(isinstance(index, Pretended) for index in indices):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        numbers = func in TAKES_NUMBERS or func in INDEXING or torch.Tag.pointwise in func.tags
        changed = args[0] if func._schema.is_mutable else None
        for tensor in tensors:
            if type(tensor) is Pretended or any(tensor is index for index in indices):
                continue
            if tensor.dim() > 0 or not numbers or tensor is changed:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, {self.device} and "
                    f"cpu! ({func})"
                )


class _Mode(TorchDispatchMode):
    """Sees what is made from nothing, and what comes from the CPU."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        # under the key of torch's own fake tensors, no device is initialized before this is asked: what is computed
        # again on the way back, where :class:`_Names` does not reach, names the device by itself
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.world.run(func, args, kwargs or {})


class _Names(TorchFunctionMode):
    """Calls the device by the name that torch knows."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        if func is Tensor.cuda:
            func, args = Tensor.to, (args[0], "cuda", *args[1:])
        if func is torch.tensor and isinstance(args[0], (list, tuple)):  # of numbers, some of them on the device
            args = mapped(lambda leaf: leaf.item() if isinstance(leaf, Pretended) else leaf, args)
        named = [f"{STAND_IN}:0" if self.world.means(value) else value for value in args]
        kwargs = dict(kwargs or {})
        if self.world.means(kwargs.get("device")):
            kwargs["device"] = f"{STAND_IN}:0"
        return self.world.replaced.get(func, func)(*named, **kwargs)


@contextmanager
def pretended(kind: str = "cuda") -> Iterator[Traffic]:
    """Pretend that there is a device, ``"cuda"`` or ``"mps"``; yields what goes between it and the host.

    On a machine with an accelerator tests run on that, which tells mistakes by itself, and nothing is counted.
    """
    if REAL is not None:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as exact as the CPU
            yield Traffic()
        return
    world = World(kind)
    with entered(world):
        yield world.traffic


@contextmanager
def entered(world: World) -> Iterator[None]:
    """Have torch know a device for as long as the context."""
    _register()
    lifted = torch._C._only_lift_cpu_tensors()
    replaced = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) makes it on the CPU, then copies
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # module.to(…) makes parameters of another class
    try:
        with _Mode(world), _Names(world), torch.autograd.set_multithreading_enabled(False):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
        torch.__future__.set_overwrite_module_params_on_conversion(replaced)


class _Hooks(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return False  # libraries would choose it by themselves

    def is_built(self) -> bool:
        return True

    def has_primary_context(self, index: int) -> bool:
        return False


@cache
def _register() -> _Hooks:
    """Make torch know the stand-in, for the rest of the process; a machine's own accelerator would stop working."""
    if torch.accelerator.is_available():
        raise RuntimeError("there is an accelerator; a pretended one would take its place")
    from torch.utils import backend_registration

    torch._C._ensureCUDADeviceGuardSet()
    hooks = _Hooks()
    backend_registration._setup_privateuseone_for_python_backend(STAND_IN, hook=hooks)
    # from here on, checkpointing asks it on the CPU too
    getattr(torch, STAND_IN).get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    return hooks


def _site() -> str:
    """Return the product's line that is being run, else the nearest one outside of torch."""
    frame, nearest = sys._getframe(1), ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(tuple(PRODUCT)):
            return f"{'/'.join(Path(file).parts[-3:])}:{frame.f_lineno} {frame.f_code.co_name}"
        if not nearest and "/torch/" not in file and file != __file__:
            nearest = f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return nearest


if REAL is None:
    _register()  # before anything is differentiated: autograd counts the devices then, once in a process
