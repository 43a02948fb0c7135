"""Colors of objects by a CLIP's zero-shot classification of their crops, as GenEval's evaluation defines it.

An object is cut out by its box, and what its mask does not cover is gray. Each color is described by three phrases,
whose unit vectors are averaged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steer_detect.asked import Want
from steer_detect.detection import Detection
from steer_rewards.clip import embedder, find, load
from steer_rewards.embedding import unit

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
"""GenEval's colors; a color that a prompt asks for is added if it is not among them."""
PHRASES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
GRAY = 0x99 / 255
"""What is not the object."""


class Colors:
    """Names the colors of detections.

    Attributes:
        model: the CLIP.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Args: name: of the CLIP, as for the reward ``clip``; device: to compute on.

        Raises:
            SteerError: if it is unknown, or its weights cannot be loaded.
        """
        self.model, tokenizer = load(find(name), device, torch.float32)
        self._embedder = embedder("colors", self.model, tokenizer, device, torch.float32)
        self._texts: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def known(self, want: Want) -> tuple[str, ...]:
        """Return the colors to choose among."""
        return COLORS if want.color is None or want.color in COLORS else (*COLORS, want.color)

    @torch.no_grad()
    def chances(self, image: Tensor, group: Sequence[Detection], want: Want) -> Tensor:
        """Return the probability ``[objects, colors]`` of each color of :meth:`known`.

        Args:
            image: float ``[3, H, W]`` in [0, 1].
            group: objects in it.
            want: their class.
        """
        texts = self._described(want.name, self.known(want))
        crops = [self._embedder.images(cut_out(image, one)[None]) for one in group]
        return (100 * torch.cat(crops) @ texts.T).softmax(dim=1)

    def names(self, image: Tensor, group: Sequence[Detection], want: Want) -> list[str]:
        """Return the likeliest color of each object."""
        known = self.known(want)
        return [known[best] for best in self.chances(image, group, want).argmax(dim=1).tolist()] if group else []

    def _described(self, name: str, colors: tuple[str, ...]) -> Tensor:
        if (name, colors) not in self._texts:
            rows = [self._embedder.texts([phrase.format(color=c, name=name) for phrase in PHRASES]) for c in colors]
            self._texts[name, colors] = unit(torch.stack([row.mean(dim=0) for row in rows]))
        return self._texts[name, colors]


def cut_out(image: Tensor, one: Detection) -> Tensor:
    """Return the part ``[3, h, w]`` of an image that shows one object, at least one pixel."""
    height, width = image.shape[-2:]
    left, top, right, bottom = (round(edge) for edge in one.box)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    right, bottom = min(max(right, left + 1), width), min(max(bottom, top + 1), height)
    part = image[:, top:bottom, left:right]
    if one.mask is None or one.mask.shape != tuple(part.shape[1:]):
        return part
    return torch.where(torch.from_numpy(one.mask).to(part.device), part, part.new_tensor(GRAY))
