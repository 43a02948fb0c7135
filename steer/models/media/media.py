"""``Medium``: how samples of a kind become values, files, pictures and lines, and how two of them differ."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor


class Medium(abc.ABC):
    """One kind of sample.

    *Samples* are a batch in the form that models decode and rewards take: a tensor ``[N, …]``, or an object indexed by
    rows like a tensor. A *value* is one of them in the user's form.

    Attributes:
        name: the ``modality`` that backbones and rewards declare; its plural names a folder.
        suffix: of a value's file.
        suffixes: of files that may hold such samples, besides.
        pictured: whether a value is shown as a picture. If not, it is shown as a line of text.
        continuous: whether samples depend smoothly on their initial noise, unless a backbone says otherwise.
        made_of: the ``modality`` of a sample's parts, if it has such: rewards of parts score these samples too.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    pictured: ClassVar[bool] = False
    continuous: ClassVar[bool] = True
    made_of: ClassVar[str | None] = None

    @property
    def plural(self) -> str:
        """The plural of the name, in sentences and as a folder's name."""
        return f"{self.name}s"

    def check(self) -> None:
        """Raise if this machine lacks what it takes to write and read files.

        Raises:
            SteerError: naming the package.
        """
        return

    # ---- samples and values ----------------------------------------------------------------------------

    @abc.abstractmethod
    def values(self, samples: Any) -> list[Any]:
        """Return decoded samples as values."""

    @abc.abstractmethod
    def samples(self, values: Sequence[Any], device: torch.device) -> Any:
        """Return values as samples again, for a reward on a device."""

    def probe(self, size: tuple[int, int], device: torch.device) -> Any:
        """Return one sample without meaning, to try a reward on before anything is sampled.

        Args:
            size: width and height in pixels, from the backbone.
            device: of the reward.
        """
        raise NotImplementedError

    def finite(self, samples: Any) -> bool:
        """Whether decoded samples are numbers."""
        return not isinstance(samples, Tensor) or bool(torch.isfinite(samples.detach()).all())

    def stills(self, samples: Any) -> Tensor:
        """Return one image for each of some samples that are shown as pictures: float ``[N, 3, H, W]`` in [0, 1]."""
        images: Tensor = samples
        return images

    # ---- facts about a value ---------------------------------------------------------------------------

    def size(self, value: Any) -> dict[str, int]:
        """Return the settings of a run that give a value's size, for its recipe."""
        return {}

    def size_text(self, size: tuple[int, int]) -> str:
        """Return a planned size as text."""
        return f"{size[0]}x{size[1]}"

    def planned_bytes(self, size: tuple[int, int], frames: int) -> int:
        """Return the approximate bytes of a value's file of a planned size, its recipe left out."""
        return size[0] * size[1]

    def facts(self, value: Any) -> dict[str, Any]:
        """Return a value's fields in its row of results, besides its scores; the page shows ``text``."""
        return {}

    def line(self, value: Any) -> str:
        """Return a value as text, if it is not shown as a picture."""
        return ""

    def picture(self, value: Any) -> Image.Image | None:
        """Return a value as a picture for sheets and reports, if it is shown as one."""
        return None

    def thumbnail(self, value: Any) -> bytes | None:
        """Return a small picture for the page as WebP; ``None`` if the page shows the file itself."""
        return None

    # ---- files -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def encoded(self, value: Any, texts: Mapping[str, str]) -> bytes:
        """Return a value as a file.

        Args:
            value: the value.
            texts: its recipe, for files that can carry texts beside the sample.
        """

    def texts_in(self, path: Path) -> Mapping[str, str] | None:
        """Return the texts that a file carries; ``None`` if files of this medium carry none.

        Raises:
            SteerError: if the file cannot be read.
        """
        return None

    @abc.abstractmethod
    def difference(self, file: bytes, value: Any) -> int:
        """Return the difference between a value and the one in a file: 0 if they are equal, 255 at most."""


def joined(parts: Sequence[Any]) -> Any:
    """Concatenate batches by rows: tensors, or samples whose class has a ``joined`` of its own."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else type(parts[0]).joined(parts)
