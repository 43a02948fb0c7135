"""A model's denoisers by name: its own, and weights that methods bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from steer.errors import unknown


@dataclass(frozen=True)
class Denoiser:
    """Other weights for a model, named before they are fetched or read.

    Attributes:
        name: their value of the setting ``denoiser``, and so in the recipe.
        file: returns their file on this machine, fetching it if it is not there.
        load: returns a module like the model's denoiser with the weights of that file; does not change the model's.
    """

    name: str
    file: Callable[[], Path]
    load: Callable[[Path], nn.Module]


class Denoisers(dict[str, nn.Module]):
    """Modules by name; ``"base"`` is the model's own.

    A run has a view of its model's table: weights that its methods promise are the run's own, and are read when a
    population begins. They are kept as long as the model, for later packs, and read again only if the file has changed.

    Attributes:
        loras: the names of those that were fused into the model's own.
        ready: called with weights that have been read, to do with them what was done to the model's own.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base=base)
        self.loras: tuple[str, ...] = ()
        self.ready: Callable[[nn.Module], None] = lambda module: None
        self._promised: dict[str, Denoiser] = {}
        self._read: dict[str, tuple[tuple[Path, int], nn.Module]] = {}

    def view(self) -> Denoisers:
        """Return the same modules in a new table without promises; read weights are shared."""
        view = Denoisers(self["base"])
        view.update(self)
        view._read, view.loras, view.ready = self._read, self.loras, self.ready
        return view

    def read(self) -> list[nn.Module]:
        """Return the model's own and all that have been read for any run."""
        return [self["base"], *(module for _, module in self._read.values())]

    def file_of(self, name: str) -> Path | None:
        """Return the file of weights that have been read; ``None`` for the model's own."""
        return self._read[name][0][0] if name in self._read else None

    def promise(self, denoiser: Denoiser) -> None:
        """Name weights for :meth:`resolve`."""
        self._promised[denoiser.name] = denoiser

    def resolve(self, name: str) -> nn.Module:
        """Return the denoiser of that name; its weights are read now if they were promised.

        Raises:
            SteerError: if no method promised weights of that name, they cannot be fetched, or do not fit the model.
        """
        denoiser = self._promised.get(name)
        if denoiser is not None:
            file = denoiser.file()
            version = (file.resolve(), file.stat().st_mtime_ns)
            if name not in self._read or self._read[name][0] != version:
                module = denoiser.load(file)
                self.ready(module)
                self._read[name] = version, module
            self[name] = self._read[name][1]
            del self._promised[name]
        if name not in self:
            raise unknown("denoiser", name, self)
        return self[name]
