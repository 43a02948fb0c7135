"""Declarations of plugins, as plain data: the weights to download, and inputs other than a text."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Weights:
    """One file on the hub, or elsewhere.

    Attributes:
        repo: ``"org/name"``; for a file outside the hub, its owner.
        file: its path in the repository.
        size: bytes, as published or estimated from the number of parameters; ``None`` if unknown. It is for messages
            only, because a download is verified against the hub's own size.
        sha256: of the file, verified after fetching; by default the hub's.
        git: its id as a blob of git, verified in the same way; for a file with a ``url``.
        revision: branch, tag or commit; the main branch by default.
        license: as stated by the authors.
        option: the plugin's option that takes a local file or a folder with the file; ``""`` if its argument does.
        otherwise: an alternative file, for repositories without ``file``.
        url: address of a file that is not on the hub; the download is kept in the hub client's cache.
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
    git: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The file and its alternative, if there is one."""
        return (self.file,) if self.otherwise is None else (self.file, self.otherwise)

    @property
    def label(self) -> str:
        """Its name in messages: file, repository and size."""
        return f"{self.file} of {self.repo} ({size_text(self.size)})"


@dataclass(frozen=True)
class Repository:
    """All files of a repository that ``from_pretrained`` (transformers, diffusers) reads; fields as in `Weights`."""

    repo: str
    size: int | None = None
    revision: str | None = None
    license: str = ""
    option: str = "weights"

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.repo} ({size_text(self.size)})"


Needed = Weights | Repository


def size_text(size: int | None) -> str:
    """Return a size as text, such as ``"2.0 GB"``."""
    if size is None:
        return "size unknown"
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"


@dataclass(frozen=True)
class Input:
    """The declaration of an input, ``steer generate --NAME VALUE``.

    Attributes:
        metavar: placeholder of the value in the help; empty for a flag.
        keep: ``"module:function"`` that turns the typed value into the metadata's value, such as a file into its
            content, so that an image's recipe needs no other file. Without it, the text itself is kept.
    """

    metavar: str = "TEXT"
    keep: str = ""

    def kept(self, value: str) -> Any:
        """Return the metadata's value for a typed value.

        Raises:
            SteerError: for a value that cannot be used.
        """
        if not self.keep:
            return value
        module, _, attribute = self.keep.partition(":")
        return getattr(importlib.import_module(module), attribute)(value)
