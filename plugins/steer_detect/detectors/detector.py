"""``Detector``: images and the names of objects in, detections out; loading one from a folder."""

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from steer import SteerError
from steer.plugin import pictures, pretrained, read_object, unknown
from steer_detect.detection import Box, Detection

BATCH = 4
"""Images per forward pass."""
KEPT = 64
"""Images whose detections are kept: several rewards of a sum look at the same ones."""
LEAST_SCORE = 0.05
"""Detections of a lower score are left out; no threshold is lower."""

_loaded: weakref.WeakValueDictionary[tuple[Path, str], "Detector"] = weakref.WeakValueDictionary()


class Detector:
    """A model of transformers with its processor.

    Attributes:
        architecture: its class in transformers.
        threshold: the usual least score of a detection.
        counting: the same where objects are counted.
        overlap: detections of a class with at least this intersection over union are the same object.
    """

    architecture: ClassVar[str]
    threshold: ClassVar[float]
    counting: ClassVar[float]
    overlap: ClassVar[float]

    def __init__(self, model: Any, processor: Any, folder: Path) -> None:
        """Args: model: frozen, in inference mode; processor: of its folder; folder: for messages."""
        self.model, self.processor, self.folder = model, processor, folder
        self._seen: OrderedDict[bytes, list[Detection]] = OrderedDict()

    @property
    def device(self) -> torch.device:
        """Where the model is now; it may wait on the CPU between scorings."""
        return torch.device(next(self.model.parameters()).device)

    @torch.no_grad()
    def find(self, images: Tensor, names: Sequence[tuple[str, ...]]) -> list[list[Detection]]:
        """Return the objects of each image, among those that are named for it.

        Args:
            images: float ``[N, 3, H, W]`` in [0, 1]; the detector sees them in 8 bits, as files hold them.
            names: of each image.

        Raises:
            SteerError: for a name that the detector does not know.
        """
        shown = pictures(images)
        keys = [_key(image, wanted) for image, wanted in zip(shown, names, strict=True)]
        missing: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(keys):
            if key not in self._seen and keys.index(key) == row:
                missing.setdefault(names[row], []).append(row)
        new: dict[bytes, list[Detection]] = {}
        for wanted, rows in missing.items():
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                found = self.detect([shown[row] for row in part], wanted)
                new |= {keys[row]: one for row, one in zip(part, found, strict=True)}
        result = [new[key] if key in new else self._seen[key] for key in keys]
        self._seen |= new
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return result

    def detect(self, images: Sequence[Image.Image], names: tuple[str, ...]) -> list[list[Detection]]:
        """Return the named objects in images of one size."""
        raise NotImplementedError

    def check(self, names: Sequence[str]) -> None:
        """Raise if the detector does not know a name."""


def load(folder: Path, device: torch.device, kinds: Sequence[type[Detector]]) -> Detector:
    """Load a detector from a folder in transformers' format, in fp32; one that is in use is shared.

    Args:
        folder: with the model, its configuration and its processor.
        device: to compute on.
        kinds: the known classes.

    Raises:
        SteerError: naming the folder, if it holds none of these, or the weights do not fit.
    """
    place = folder.resolve(), str(device)
    detector = _loaded.get(place)
    if detector is None:
        if not (folder / "config.json").is_file():
            raise SteerError(f"{folder} has no config.json; expected a detector in transformers' format")
        named = read_object(folder / "config.json", "config").get("architectures") or [""]
        by_name = {kind.architecture: kind for kind in kinds}
        if not isinstance(named, list) or named[0] not in by_name:
            raise unknown(f"detector in {folder}:", str(named[0] if isinstance(named, list) else named), by_name)
        kind = by_name[named[0]]
        detector = kind(*pretrained(kind.architecture, "AutoProcessor", folder, "a detector", device=device), folder)
        _loaded[place] = detector
    return detector


def clipped(box: Sequence[float], width: int, height: int) -> Box:
    """Return a box cut off at the edges of its image."""
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))


def _key(image: Image.Image, names: tuple[str, ...]) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr((image.size, names)).encode(), digest_size=16).digest()
