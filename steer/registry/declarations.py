"""What a plugin declares: weights that it needs, and inputs that its models draw from. Plain data."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Weights:
    """One file on the hub, or elsewhere.

    Attributes:
        repo: ``"org/name"``; of a file that is elsewhere, whose it is.
        file: its path in the repository.
        size: bytes, as published or estimated from the number of parameters; for messages only, as what is fetched
            is verified against the hub's own figure. ``None`` if not known.
        sha256: of the file, verified after fetching; by default the one that the hub states.
        revision: branch, tag or commit; the main branch by default.
        license: as the authors state it.
        option: the plugin's option that takes a local file or a folder with the file; ``""`` if its argument does.
        otherwise: a file that serves as well, in repositories that do not have ``file``.
        url: of a file that is not on the hub; it is kept in the hub client's cache for such things.
    """

    repo: str
    file: str
    size: int | None = None
    sha256: str | None = None
    revision: str | None = None
    license: str = ""
    option: str = "weights"
    otherwise: str | None = None
    url: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The file, and the one that serves as well."""
        return (self.file,) if self.otherwise is None else (self.file, self.otherwise)

    @property
    def label(self) -> str:
        """What messages call it: file, repository and size."""
        return f"{self.file} of {self.repo} ({size_text(self.size)})"


@dataclass(frozen=True)
class Repository:
    """All of a repository that ``from_pretrained`` of transformers or diffusers reads; fields as in `Weights`."""

    repo: str
    size: int | None = None
    revision: str | None = None
    license: str = ""
    option: str = "weights"

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.repo} ({size_text(self.size)})"


Needed = Weights | Repository


def size_text(size: int | None) -> str:
    """Return a size as people read it: ``"2.0 GB"``."""
    if size is None:
        return "size unknown"
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"


@dataclass(frozen=True)
class Input:
    """How an input is given: ``steer generate --NAME VALUE``.

    Attributes:
        metavar: what stands for the value in the help; empty for a flag.
        keep: ``"module:function"`` that turns what was typed into what the metadata keeps, such as a file into its
            content, so that an image's recipe needs no other file. Without it, the text itself is kept.
    """

    metavar: str = "TEXT"
    keep: str = ""

    def kept(self, value: str) -> Any:
        """Return what the metadata keeps of a typed value.

        Raises:
            SteerError: for a value that cannot be used.
        """
        if not self.keep:
            return value
        module, _, attribute = self.keep.partition(":")
        return getattr(importlib.import_module(module), attribute)(value)
