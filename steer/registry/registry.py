"""Finding plugins: entry points of the group ``steer``, lookup by name, and their health.

Entry points are loaded one by one, so that a broken third-party plugin is reported and stops nothing else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from steer.errors import SteerError, message_of, unknown
from steer.registry.declarations import Input, Needed

Declared = Sequence[Needed] | str
"""Weights as a plugin declares them: a list, or ``"module:function"`` of the argument for those that depend on it."""
KINDS = ("reward", "method", "model", "loader", "clip", "samples", "data", "input", "backbone", "command")


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from: its name, version (if packaged) and place."""

    plugin: str
    version: str
    place: str


@dataclass(frozen=True)
class Entry:
    """Something that a plugin registered under a name."""

    kind: str
    name: str
    target: str | object
    summary: str
    origin: Origin
    declared: Declared = ()
    of: str = ""
    """Of training data: what they are, ``"texts"`` for one."""

    def load(self) -> Any:
        """Import and return the registered object.

        Raises:
            SteerError: if it cannot be imported; names the plugin and the reason.
        """
        if not isinstance(self.target, str):
            return self.target
        return self._import(self.target)

    def weights(self, argument: str | None = None) -> tuple[Needed, ...]:
        """Return the weights that it needs, given the argument of ``vqa:ARGUMENT``; imports no torch.

        Raises:
            SteerError: for an argument that it does not know.
        """
        if isinstance(self.declared, str):
            return tuple(self._import(self.declared)(argument))
        return tuple(self.declared)

    def _import(self, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise SteerError(
                f"{self.kind} {self.name!r} of plugin {self.origin.plugin!r} is broken: "
                f"{type(error).__name__}: {message_of(error, 400)}"
            ) from error

    @property
    def health(self) -> str:
        """``"ok"`` if the object can be imported, else ``"broken: …"`` with the reason."""
        try:
            self.load()
        except SteerError as error:
            return f"broken: {message_of(error.__cause__ or error, 400)}"
        return "ok"


@dataclass
class Registry:
    """What all plugins brought, by kind and name.

    A target is the object itself or ``"module:attribute"``, which is imported at first use.
    """

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    origin: Origin = Origin("steer", "", "built in")

    def reward(self, name: str, target: str | object, *, summary: str = "", weights: Declared = ()) -> None:
        """Register a reward: a ``steer.Reward`` subclass or a function of (samples, prompts).

        ``weights`` are those that it takes from the hub, see :mod:`steer.models.downloads.weights`.
        """
        self._add("reward", name, target, summary, weights)

    def method(self, name: str, target: str | object, *, summary: str = "", weights: Declared = ()) -> None:
        """Register a method: a ``steer.Method`` subclass; ``weights`` as for a reward."""
        self._add("method", name, target, summary, weights)

    def model(self, name: str, target: str | object, *, summary: str = "") -> None:
        """Register a short name for a model: a function that returns its folder or hub id."""
        self._add("model", name, target, summary)

    def loader(self, name: str, target: str | object, *, summary: str = "") -> None:
        """Register a kind of model that is no diffusers pipeline: ``NAME:ARGUMENT`` as a model's name calls
        ``target(argument, device, dtype) -> Backbone``."""
        self._add("loader", name, target, summary)

    def clip(self, name: str, target: str | object, *, summary: str = "") -> None:
        """Register a short name for a CLIP: a function that returns its folder in open_clip's layout."""
        self._add("clip", name, target, summary)

    def samples(self, name: str, target: str | object, *, summary: str = "") -> None:
        """Register example samples: a function that returns float images ``[N, 3, H, W]`` in [0, 1], N prompts."""
        self._add("samples", name, target, summary)

    def data(self, name: str, target: str | object, *, of: str, summary: str = "") -> None:
        """Register training data by name.

        Args:
            name: as it is given with ``--data``.
            target: what the commands that train on data of this kind take.
            of: the kind: ``"captioned images"`` (``steer train dmd2``), ``"labelled images"`` (``symmflow``),
                ``"texts"`` (``text``), or another of your own commands'.
            summary: a line for listings.
        """
        self._add("data", name, target, summary, of=of)

    def input(self, name: str, declared: Input, *, summary: str = "") -> None:
        """Register what a model draws from besides a text: ``steer generate --NAME VALUE`` puts it into the metadata
        of the prompts, where the model's backbone and rewards find it."""
        self._add("input", name, declared, summary)

    def backbone(self, pipeline_class: str, target: str | object, *, summary: str = "") -> None:
        """Register the backbone that serves a diffusers pipeline class, by the class's name."""
        self._add("backbone", pipeline_class, target, summary)

    def command(self, name: str, target: str | object, *, summary: str = "") -> None:
        """Register a click command under ``"verb"`` or ``"verb noun"`` (``steer train shapes``).

        Raises:
            SteerError: for a name that is taken, or a verb that is a command of one plugin and a group of another.
        """
        verb, _, noun = name.partition(" ")
        for other, entry in self.entries["command"].items():
            if other.partition(" ")[0] == verb and ("" in (noun, other.partition(" ")[2])) and other != name:
                raise SteerError(
                    f"commands {other!r} of plugin {entry.origin.plugin!r} and {name!r} of {self.origin.plugin!r} "
                    "exclude each other; rename one"
                )
        self._add("command", name, target, summary)

    @property
    def rewards(self) -> Mapping[str, Entry]:
        """Rewards by name."""
        return MappingProxyType(self.entries["reward"])

    @property
    def methods(self) -> Mapping[str, Entry]:
        """Methods by name."""
        return MappingProxyType(self.entries["method"])

    @property
    def models(self) -> Mapping[str, Entry]:
        """Model aliases by name."""
        return MappingProxyType(self.entries["model"])

    @property
    def clips(self) -> Mapping[str, Entry]:
        """CLIP aliases by name."""
        return MappingProxyType(self.entries["clip"])

    def data_of(self, kind: str) -> Mapping[str, Entry]:
        """Return the sources of training data of a kind, by name."""
        return {name: entry for name, entry in self.entries["data"].items() if entry.of == kind}

    @property
    def backbones(self) -> Mapping[str, Entry]:
        """Backbones by pipeline class."""
        return MappingProxyType(self.entries["backbone"])

    @property
    def commands(self) -> Mapping[str, Entry]:
        """Commands by words."""
        return MappingProxyType(self.entries["command"])

    @property
    def loaders(self) -> Mapping[str, Entry]:
        """Loaders of models by the word before the colon."""
        return MappingProxyType(self.entries["loader"])

    def get(self, kind: str, name: str) -> Entry:
        """Look a name up.

        Raises:
            SteerError: if nothing has that name; suggests the nearest.
        """
        try:
            return self.entries[kind][name]
        except KeyError:
            raise unknown(kind, name, self.entries[kind]) from None

    def _add(
        self, kind: str, name: str, target: str | object, summary: str, weights: Declared = (), of: str = ""
    ) -> None:
        taken = self.entries[kind].get(name)
        if taken is not None:
            raise SteerError(
                f"{kind} {name!r} is brought by two plugins: {taken.origin.plugin!r} and {self.origin.plugin!r}; "
                "uninstall one of them"
            )
        self.entries[kind][name] = Entry(kind, name, target, summary, self.origin, weights, of)
