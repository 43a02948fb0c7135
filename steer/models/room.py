"""What a GPU holds at a time: rows that are decoded together, by their pixels; weights, by their bytes and the room."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

DECODED_PIXELS = 1024 * 1024
"""Pixels of the images that a GPU decodes together, unless one image has more: a decoder takes many times the memory
per image that the denoiser takes, and this many keep a GPU busy."""


def rows_at_once(rows: int, pixels: int, most: int = DECODED_PIXELS) -> int:
    """Return the size of equal batches of ``rows`` images, each of at most ``most`` pixels or one image."""
    batches = math.ceil(rows / max(1, most // pixels))
    return math.ceil(rows / batches)


def fits(weights: int, room: int | None) -> bool:
    """Return whether weights of so many bytes leave a third of a device's room to activations; any do if ``None``."""
    return room is None or 3 * weights <= 2 * room


def bytes_of(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all weights, each counted once."""
    tensors = {id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    return sum(map(_bytes, tensors.values()))


def _bytes(tensor: Tensor) -> int:
    """Return a tensor's bytes; one of torchao consists of others, and says the size of what it stands for."""
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.nbytes
    inner, _ = tensor.__tensor_flatten__()
    return sum(_bytes(getattr(tensor, name)) for name in inner)


def movable(module: nn.Module) -> bool:
    """Return whether a part can leave its device; bitsandbytes' layers of eight bits can since its version 0.48."""
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
        self._waiting = [one for one in [*self._waiting, *leaving] if one is not module and one in known]
        if not self.crowded or self._encoding is False:  # else all are on the CPU
            moved(leaving, torch.device("cpu"))
            moved(coming, self._device)

    def _at_work(self) -> list[nn.Module]:
        return [module for module in self._others() if module not in self._waiting]

    def enter(self, *, encoding: bool) -> None:
        """Bring the encoders, or all other parts; if the device is crowded, the rest waits on the CPU meanwhile."""
        if not self.crowded or self._encoding is encoding:
            return
        groups = [self._encoders, self._at_work()]
        leaving, coming = groups if not encoding else reversed(groups)
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
