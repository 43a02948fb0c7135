"""What a GPU holds at a time: rows that are decoded or scored together, by their pixels; weights, by their bytes and
the room."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from steer.models.media.media import joined

PIXELS_AT_ONCE = 1024 * 1024
"""Pixels of the images that a GPU decodes or scores together, unless one image has more: a decoder takes many times
the memory per image that the denoiser takes, and this many keep a GPU busy. It does not depend on the room, so that
images do not."""


def rows_at_once(pixels: int) -> int:
    """Return how many images of so many pixels a GPU decodes or scores together."""
    return max(1, PIXELS_AT_ONCE // pixels)


def scored_at_once(samples: Any) -> int | None:
    """Return how many of some images to score together at most; ``None`` on a CPU and for other samples: all."""
    if not isinstance(samples, Tensor) or samples.device.type == "cpu":
        return None
    return rows_at_once(math.ceil(samples.shape[1:].numel() / 3))


def in_equal_batches(function: Callable[[Any, Sequence[int]], Any], samples: Any, most: int) -> Any:
    """Call a function of some samples and their rows in as few batches of one size as hold at most ``most``.

    Kernels differ in the last bits between batch sizes; so the last batch is filled up with copies of the last row, and
    a row's result does not depend on its place.
    """
    count = len(samples)
    if count <= most:
        return function(samples, range(count))
    size = math.ceil(count / math.ceil(count / most))
    batches = [[min(row, count - 1) for row in range(start, start + size)] for start in range(0, count, size)]
    return joined([function(samples[torch.tensor(rows, device=samples.device)], rows) for rows in batches])[:count]


def fits(weights: int, room: int | None) -> bool:
    """Return whether weights of so many bytes leave a third of a device's room to activations; any do if ``None``."""
    return room is None or 3 * weights <= 2 * room


def bytes_of(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all weights, each counted once."""
    tensors = {id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    return sum(held.nbytes for tensor in tensors.values() for held in held_by(tensor))


def held_by(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that one consists of: itself, unless it is torchao's, which says the size of what it stands
    for."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    inner, _ = tensor.__tensor_flatten__()
    for name in inner:
        yield from held_by(getattr(tensor, name))


def movable(module: nn.Module) -> bool:
    """Return whether a part can leave its device.

    One whose weights are split over processes stays; bitsandbytes' layers of eight bits can leave since its version
    0.48.
    """
    if hasattr(module, "unshard"):  # torch's FSDPModule
        return False
    if not getattr(module, "is_loaded_in_8bit", False):
        return True
    from diffusers.utils import is_bitsandbytes_version

    return bool(is_bitsandbytes_version(">=", "0.48.0"))


def room_of(device: torch.device) -> int | None:
    """Return the bytes of a device that this process has or can get; ``None`` if it shares the machine's memory."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


class Residence:
    """A model's encoders and its other parts on a GPU: all of them, or one group at a time.

    Attributes:
        crowded: whether only one group is there at a time.
    """

    def __init__(
        self,
        device: torch.device,
        encoders: Sequence[nn.Module],
        others: Callable[[], Sequence[nn.Module]],
        *,
        crowded: bool,
    ) -> None:
        """Take charge of modules that are on the device, or if it is ``crowded``, on the CPU.

        Args:
            others: all that is needed once texts are encoded; called whenever they move, because methods bring weights.
        """
        self.crowded = crowded
        self._device, self._encoders, self._others = device, encoders, others
        self._encoding: bool | None = None
        self._waiting: list[nn.Module] = []

    def bytes_held(self) -> int:
        """Return the bytes of the parts that are on the device while nothing is encoded."""
        return bytes_of([*self._at_work(), *([] if self.crowded else self._encoders)])

    def wait(self, module: nn.Module) -> None:
        """Take charge of one of the other parts that is on the CPU and waits there until it is used."""
        self._waiting.append(module)

    def use(self, module: nn.Module, instead_of: Sequence[nn.Module] = ()) -> None:
        """Bring one of the other parts if it waits; have those wait that it is used instead of."""
        leaving = [one for one in instead_of if one is not module and one not in self._waiting and movable(one)]
        coming = [one for one in self._waiting if one is module]
        if not leaving and not coming:
            return
        known = self._others()
        moved(leaving, torch.device("cpu"))
        self._waiting = [one for one in [*self._waiting, *leaving] if one in known]
        if not self.crowded or self._encoding is False:  # else it comes with the others
            moved(coming, self._device)
        self._waiting = [one for one in self._waiting if one is not module]

    def _at_work(self) -> list[nn.Module]:
        return [module for module in self._others() if module not in self._waiting]

    def enter(self, *, encoding: bool) -> None:
        """Bring the encoders, or all other parts; if the device is crowded, the rest waits on the CPU meanwhile."""
        if not self.crowded or self._encoding is encoding:
            return
        groups = [self._encoders, self._at_work()]
        leaving, coming = groups if not encoding else reversed(groups)
        self._encoding = None  # if there is no room for all, the next call moves whatever is not in its place
        moved(leaving, torch.device("cpu"))
        moved(coming, self._device)
        self._encoding = encoding

    def crowd(self) -> bool:
        """Let only one group be there from now on; return whether this made room."""
        if self.crowded or not self._encoders:
            return False
        self.crowded = True
        self.enter(encoding=False)
        return True


def moved(modules: Iterable[nn.Module], device: torch.device) -> None:
    """Move modules that can be, and give the memory that they leave back to the device."""
    for module in filter(movable, modules):
        module.to(device)
    torch.cuda.empty_cache()
