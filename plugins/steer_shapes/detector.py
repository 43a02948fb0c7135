"""A small differentiable detector of the embedded world: where objects are, and what they are."""

import copy
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steer.plugin import fingerprint, resized

from . import paths
from .grammar import Phrase
from .scenes import CANVAS, COLORS, SHAPES, SIZES, TEXTURES

STRIDE = 4
GRID = CANVAS // STRIDE
ATTRIBUTES: dict[str, tuple[str, ...]] = {"shape": SHAPES, "color": COLORS, "size": SIZES, "texture": TEXTURES}
WIDTH, BLOCKS = 48, 4


class Block(nn.Module):
    """Two convolutions with a residual connection; the second is dilated by 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.norms = nn.ModuleList([nn.GroupNorm(8, width), nn.GroupNorm(8, width)])

    def forward(self, x: Tensor) -> Tensor:
        """``[N, width, 16, 16]`` to the same shape."""
        y = self.first(F.silu(self.norms[0](x)))
        y = self.second(F.silu(self.norms[1](y)))
        out: Tensor = x + y
        return out


class Detector(nn.Module):
    """Maps images to a density of objects and their attributes' probabilities on a grid of 16×16 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(24, WIDTH, 4, stride=2, padding=1)
        )
        self.blocks = nn.Sequential(*(Block(WIDTH) for _ in range(BLOCKS)))
        self.head = nn.Conv2d(WIDTH, 1 + sum(map(len, ATTRIBUTES.values())), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[N, 3, 64, 64]`` in [0, 1] to ``[N, 19, 16, 16]``: density before softplus, logits of attributes."""
        out: Tensor = self.head(F.silu(self.blocks(self.stem(2 * images - 1))))
        return out


@dataclass(frozen=True)
class Reading:
    """The detector's result for N images.

    Attributes:
        density: ``[N, 256]``; its sum over cells is the number of objects.
        chances: attribute to ``[N, values, 256]``, the probability of each value for an object in the cell.
    """

    density: Tensor
    chances: dict[str, Tensor]

    def mass(self, row: int, phrase: Phrase) -> Tensor:
        """Return the density of objects in image ``row`` that match a phrase, ``[256]``; the sum is their number."""
        found = self.density[row]
        for attribute, values in ATTRIBUTES.items():
            wanted = getattr(phrase, attribute)
            if wanted is not None:
                found = found * self.chances[attribute][row, values.index(wanted)]
        return found


def read(detector: Detector, images: Tensor) -> Reading:
    """Run the detector on images, float ``[N, 3, H, W]`` in [0, 1]; gradients reach the images."""
    if images.shape[-2:] != (CANVAS, CANVAS):
        images = resized(images, (CANVAS, CANVAS), "bilinear")
    return split(detector(images))


class Reader:
    """Runs the detector and keeps its last result, because all rewards of a sum read the same images in turn, each in a
    copy of its own.

    Images that need a gradient are not kept, because a graph can be differentiated only once.
    """

    def __init__(self, detector: Detector) -> None:
        """Args: detector: frozen, in fp32."""
        self.detector = detector
        self._last: tuple[Tensor, Reading] | None = None

    def digest(self) -> tuple[str, str]:
        """Return the precision of the detector and a digest of its weights."""
        return "fp32", fingerprint(self.detector)

    def __call__(self, images: Tensor) -> Reading:
        """Run the detector on images, float ``[N, 3, H, W]`` in [0, 1], on the detector's device."""
        images = images.float()
        if images.requires_grad:
            return read(self.detector, images)
        last = self._last  # another thread may put its own there
        if last is None or not torch.equal(last[0], images):
            with torch.no_grad():
                self._last = last = (images.clone(), read(self.detector, images))
        return last[1]


def split(out: Tensor) -> Reading:
    """Split the detector's output ``[N, 19, 16, 16]`` into density and attributes."""
    flat = out.flatten(2)
    parts = flat[:, 1:].split([len(values) for values in ATTRIBUTES.values()], dim=1)
    return Reading(
        F.softplus(flat[:, 0]), {name: part.softmax(dim=1) for name, part in zip(ATTRIBUTES, parts, strict=True)}
    )


@lru_cache(maxsize=4)
def load(device: str = "cpu") -> Detector:
    """Return the shipped detector, frozen, in fp32; the same one at every call."""
    from safetensors.torch import load_file

    detector = Detector()
    weights = load_file(paths.detector() / "detector.safetensors")
    detector.load_state_dict({name: value.float() for name, value in weights.items()})
    return detector.to(device).eval().requires_grad_(False)


class Features(nn.Module):
    """The detector's last features of images, on the grid of 16×16 cells; a fresh copy, to be trained on."""

    def __init__(self) -> None:
        super().__init__()
        detector = copy.deepcopy(load())
        self.layers = nn.Sequential(detector.stem, detector.blocks).requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[N, 3, 64, 64]`` in [0, 1] to ``[N, 48, 16, 16]``."""
        out: Tensor = self.layers(2 * images - 1)
        return out


@lru_cache(maxsize=4)
def reader(device: str = "cpu") -> Reader:
    """Return the reader of the shipped detector; all rewards on a device share it."""
    return Reader(load(device))
