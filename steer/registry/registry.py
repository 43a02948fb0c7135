"""``Registry``: everything that plugins provide, by kind and name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partialmethod
from types import MappingProxyType
from typing import Any

from steer.errors import SteerError, message_of, unknown
from steer.registry.declarations import Needed
from steer.settings.folders import same_directory

Declared = Sequence[Needed] | str
"""Weights as a plugin declares them: a list, or ``"module:function"`` that returns one for an argument."""
KINDS: dict[str, tuple[str, ...]] = {
    "method": ("weights",),
    "reward": ("weights",),
    "model": (),
    "loader": (),
    "clip": (),
    "samples": (),
    "data": ("of",),
    "input": (),
    "backbone": (),
    "benchmark": (),
    "command": (),
}
"""The kinds of things that plugins provide, and the extra fields of each; `Registry` explains the kinds."""


@dataclass(frozen=True)
class Origin:
    """The origin of a plugin: its name, version (if packaged) and place."""

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
    """The kind of training data: ``"texts"``, for example."""

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
            with same_directory():
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


@dataclass(frozen=True)
class _Known:
    """A `Registry` attribute: all entries of a kind, by name."""

    kind: str

    def __get__(self, registry: Registry, owner: type | None = None) -> Mapping[str, Entry]:
        return MappingProxyType(registry.entries[self.kind])


@dataclass
class Registry:
    """Everything that plugins provide, by kind and name.

    ``registry.KIND(name, target, summary="…")`` registers one entry. A target is the object itself or
    ``"module:attribute"``, which is imported at first use; the summary is a line for listings. The target is

    - of a ``method``: a ``steer.Method`` subclass;
    - of a ``reward``: a ``steer.Reward`` subclass, or a function of (samples, prompts);
    - of a ``model``, a short name for one: a function that returns its folder or hub id;
    - of a ``loader`` of models that are not diffusers pipelines: a function ``(argument, device, dtype) -> Backbone``,
      called for the model ``NAME:ARGUMENT``;
    - of a ``clip``, a short name for one: a function that returns its folder in open_clip's layout;
    - of ``samples`` to try rewards on: a function that returns float images ``[N, 3, H, W]`` in [0, 1] and N prompts;
    - of ``data``: a source of training data. Its kind is ``of``: ``"captioned images"`` (``steer train dmd2``),
      ``"labeled images"`` (``symmflow``), ``"texts"`` (``text``), ``"image features"``, a function without arguments
      that returns a network to begin a discriminator from (``dmd2``), or one of your own;
    - of an ``input`` of models besides the text: an `Input`. ``steer generate --NAME VALUE`` puts it into the metadata
      of the prompts, for the model's backbone and rewards;
    - of a ``backbone``, named like the diffusers pipeline class that it serves: a `Backbone` subclass;
    - of a ``benchmark``: a :class:`steer.plugin.Benchmark`, which ``steer bench NAME`` runs;
    - of a ``command``, named ``"verb"`` or ``"verb noun"`` (``steer train shapes``): a click command.

    Methods and rewards declare the ``weights`` that they need to fetch: a list of `Weights` and `Repository`,
    or ``"module:function"`` that returns one for the argument in ``vqa:ARGUMENT``.

    Each raises SteerError for a name that is taken, and for a command that would hide another.
    """

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    origin: Origin = Origin("steer", "", "built in")

    def add(self, kind: str, name: str, target: str | object, *, summary: str = "", **declared: Any) -> None:
        """Register something of any kind in `KINDS`.

        Raises:
            SteerError: for a name that is taken, a command that would hide another, or a field of another kind.
        """
        known = self.entries[kind]
        if name in known:
            raise SteerError(
                f"{kind} {name!r} is provided by two plugins: {known[name].origin.plugin!r} and "
                f"{self.origin.plugin!r}; uninstall one of them"
            )
        for other in declared.keys() - set(KINDS[kind]):
            raise unknown(f"field of {kind} {name!r}", other, ("summary", *KINDS[kind]))
        if kind == "data" and not declared.get("of"):
            raise SteerError(f'data {name!r} of plugin {self.origin.plugin!r} has no kind; add of="texts" or another')
        if kind == "command":
            self._check_command(name)
        known[name] = Entry(
            kind, name, target, summary, self.origin, declared.get("weights", ()), declared.get("of", "")
        )

    method = partialmethod(add, "method")
    reward = partialmethod(add, "reward")
    model = partialmethod(add, "model")
    loader = partialmethod(add, "loader")
    clip = partialmethod(add, "clip")
    samples = partialmethod(add, "samples")
    data = partialmethod(add, "data")
    input = partialmethod(add, "input")
    backbone = partialmethod(add, "backbone")
    benchmark = partialmethod(add, "benchmark")
    command = partialmethod(add, "command")

    methods = _Known("method")
    rewards = _Known("reward")
    models = _Known("model")
    loaders = _Known("loader")
    clips = _Known("clip")
    backbones = _Known("backbone")
    benchmarks = _Known("benchmark")
    commands = _Known("command")

    def __iter__(self) -> Iterator[Entry]:
        """Yield everything, kind by kind."""
        return (entry for known in self.entries.values() for entry in known.values())

    def data_of(self, of: str) -> Mapping[str, Entry]:
        """Return the sources of training data of a kind, by name."""
        return {name: entry for name, entry in self.entries["data"].items() if entry.of == of}

    def get(self, kind: str, name: str) -> Entry:
        """Look a name up.

        Raises:
            SteerError: if nothing has that name; suggests the nearest.
        """
        try:
            return self.entries[kind][name]
        except KeyError:
            raise unknown(kind, name, self.entries[kind]) from None

    def _check_command(self, name: str) -> None:
        verb, _, noun = name.partition(" ")
        for other, entry in self.entries["command"].items():
            if other.partition(" ")[0] == verb and "" in (noun, other.partition(" ")[2]):
                raise SteerError(
                    f"commands {other!r} of plugin {entry.origin.plugin!r} and {name!r} of {self.origin.plugin!r} "
                    "clash; rename one"
                )
