"""Differentiable rewards from the embedded detector. Each checks one aspect of a prompt and ignores the others.

Category weights exist for such rewards: none judges everything, and the prompt decides which one matters.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from steer import Reward

from .detector import GRID, STRIDE, Reading, reader
from .grammar import Phrase, Relation, Requirements, parse_prompt
from .scenes import ACCENT, BACKGROUND, PALETTE
from .sentence_reward import SentenceReward

SATURATION = 3.0
COUNT_WIDTH = 0.6
"""Width of the tolerance for counts, in objects."""
RELATION_WIDTH = 2.0
"""Distance from a relation's limit at which it is nearly certain, in pixels."""

_parsed = lru_cache(maxsize=4096)(parse_prompt)


class ReadsDetector(SentenceReward):
    """Base of all rewards that read the detector; gradients flow through it."""

    differentiable = True

    def prepare(self) -> None:
        """Load the detector, always in fp32 because it is small."""
        self._read = reader(str(self.device))

    def digest(self) -> tuple[str, str] | None:
        """Return those of the detector, which is no part of the reward's own: all of them share it."""
        return self._read.digest() if self.is_ready else None


class DetectorReward(ReadsDetector):
    """Base of the rewards that read images of the grammar's prompts, in 0..1."""

    parse = staticmethod(_parsed)

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score images, float ``[N, 3, H, W]`` in [0, 1], against N prompts of the grammar.

        Raises:
            PromptError: for a prompt that is not in the grammar.
        """
        asked = [_parsed(str(prompt)) for prompt in prompts]
        reading = self._read(samples.to(self.device, torch.float32))
        return torch.stack([self.score(reading, row, wanted) for row, wanted in enumerate(asked)])

    def score(self, reading: Reading, row: int, wanted: Requirements) -> Tensor:
        """Return the score of one image, 0-dimensional."""
        raise NotImplementedError


class ShapesObjects(DetectorReward):
    """Does the image have each object that the prompt names? Ignores counts and positions.

    The mean over phrases of 1 − exp(−3·m), where m is the number of matching objects; like a VQA model with one
    question per phrase.
    """

    def score(self, reading: Reading, row: int, wanted: Requirements) -> Tensor:
        return torch.stack([present(reading.mass(row, phrase)) for phrase in wanted.phrases]).mean()


class ShapesCount(DetectorReward):
    """Are there as many objects as the prompt says, in total and per shape? Ignores colors, textures and positions."""

    def score(self, reading: Reading, row: int, wanted: Requirements) -> Tensor:
        counts: dict[str, int] = {}
        for phrase in wanted.phrases:
            counts[phrase.shape] = counts.get(phrase.shape, 0) + phrase.count
        right = [_near(reading.density[row].sum(), wanted.total)]
        right += [_near(reading.mass(row, Phrase(shape)).sum(), count) for shape, count in counts.items()]
        return torch.stack(right).mean()


class ShapesRelations(DetectorReward):
    """Are the objects placed as the prompt says? Ignores all else; 1 for a prompt without relations."""

    def score(self, reading: Reading, row: int, wanted: Requirements) -> Tensor:
        if not wanted.relations:
            return 1 + 0 * reading.density[row].sum()
        return torch.stack([_holds(reading, row, wanted, relation) for relation in wanted.relations]).mean()


class ShapesClean(Reward):
    """How clean an image is, in 0..1, regardless of the prompt.

    The score is 1 minus the mean distance of its pixels to the colors of scenes, including their blends with the
    background and with white. Noise and smears lower it.
    """

    differentiable = True
    needs_prompt = False

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score images, float ``[N, 3, H, W]`` in [0, 1]."""
        pixels = samples.flatten(2).transpose(1, 2)
        colors = torch.tensor(list(PALETTE.values()), device=pixels.device, dtype=pixels.dtype) / 255
        distances = [_to_segment(pixels, end, color) for color in colors for end in _ends(pixels)]
        nearest = torch.stack(distances).amin(dim=0)
        return 1 - (nearest + 1e-12).sqrt().mean(dim=1)


def present(mass: Tensor) -> Tensor:
    """Return whether there is an object, in 0..1, by the density of those that match."""
    return 1 - torch.exp(-SATURATION * mass.sum())


def _near(count: Tensor, wanted: int) -> Tensor:
    return torch.exp(-0.5 * ((count - wanted) / COUNT_WIDTH) ** 2)


def _holds(reading: Reading, row: int, wanted: Requirements, relation: Relation) -> Tensor:
    """Return the probability that both objects exist and :func:`steer_shapes.scenes.relation_holds`."""
    masses = [reading.mass(row, wanted.phrases[index]) for index in (relation.subject, relation.other)]
    (x, y), (other_x, other_y) = (center(mass) for mass in masses)
    dx, dy = x - other_x, y - other_y
    along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation.kind]
    margin = torch.minimum(along - 5.0, along - 0.8 * across.abs())
    return torch.sigmoid(margin / RELATION_WIDTH) * present(masses[0]) * present(masses[1])


def center(mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return the center of mass (x, y) in pixels."""
    places = (torch.arange(GRID, device=mass.device, dtype=mass.dtype) + 0.5) * STRIDE
    grid = mass.view(GRID, GRID)
    total = grid.sum() + 1e-6
    return (grid.sum(dim=0) * places).sum() / total, (grid.sum(dim=1) * places).sum() / total


def _ends(pixels: Tensor) -> list[Tensor]:
    return [torch.tensor(end, device=pixels.device, dtype=pixels.dtype) / 255 for end in (BACKGROUND, ACCENT)]


def _to_segment(pixels: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return squared distances ``[N, P]`` of colors ``[N, P, 3]`` to the blends of two colors."""
    way = end - start
    share = (((pixels - start) * way).sum(dim=-1) / (way @ way)).clamp(0, 1)
    return ((pixels - start - share.unsqueeze(-1) * way) ** 2).sum(dim=-1)
