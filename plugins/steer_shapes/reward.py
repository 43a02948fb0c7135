"""The ``shapes`` reward: the share of a prompt's requirements that an image meets."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .grammar import Phrase, Relation, Requirements, parse_prompt
from .scenes import relation_holds
from .sentence_reward import SentenceReward
from .verifier import Detection, parse_images

_EXHAUSTIVE = 4
"""Up to this many objects, all matches of objects to the prompt are tried."""

_parsed = lru_cache(maxsize=4096)(parse_prompt)


class ShapesReward(SentenceReward):
    """Share of the prompt's requirements that the verifier finds met, in [0, 1].

    Each named object gives one requirement for its presence, one for its shape, and one for each
    named attribute. Each relation is one requirement. The absence of other objects is one more.
    Objects in the image are matched to the prompt's so that most requirements are met. The reward
    is exactly 1 if and only if all requirements are met.
    """

    differentiable = False
    parse = staticmethod(_parsed)

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score images, float [N, 3, H, W] in [0, 1], against N prompts of the grammar.

        Returns:
            float32 [N] on the device of ``samples``.

        Raises:
            PromptError: for a prompt that is not in the grammar.
        """
        if len(samples) != len(prompts):
            raise ValueError(f"{len(samples)} samples but {len(prompts)} prompts")
        # Parse prompts first, so that a bad one is reported before any work.
        asked = [_parsed(prompt) for prompt in prompts]
        scores = [score(r, found) for r, found in zip(asked, parse_images(samples), strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=samples.device)


def score(requirements: Requirements, found: Sequence[Detection]) -> float:
    """Return the share of ``requirements`` that detected objects meet, in [0, 1]."""
    phrases = [phrase for phrase in requirements.phrases for _ in range(phrase.count)]
    possible = sum(map(_asked, phrases)) + len(requirements.relations) + 1
    met = np.array([[_met(phrase, obj) for obj in found] for phrase in phrases], float)
    met = met.reshape(len(phrases), len(found))
    best = _best_match(met, requirements.relations, found)
    # A wrong count keeps part of the credit, so that each further wrong object still costs some.
    count = 1.0 / (1.0 + abs(len(found) - len(phrases)))
    return (best + count) / possible


def _best_match(met: np.ndarray, relations: tuple[Relation, ...], found: Sequence[Detection]) -> float:
    """Return the most requirements met over all matches of phrases (rows) with objects (columns)."""
    rows, columns = met.shape
    if not relations or columns > _EXHAUSTIVE:
        first, second = linear_sum_assignment(met, maximize=True)
        match = dict(zip(first.tolist(), second.tolist(), strict=True))
        return float(met[first, second].sum()) + _relations_met(relations, match, found)
    # If objects fit equally well, the relations decide the match.
    slots = [*range(columns), *[None] * max(0, rows - columns)]
    best = 0.0
    for order in permutations(slots, rows):
        match = {row: column for row, column in enumerate(order) if column is not None}
        value = sum(float(met[row, column]) for row, column in match.items())
        best = max(best, value + _relations_met(relations, match, found))
    return best


def _relations_met(relations: tuple[Relation, ...], match: dict[int, int], found: Sequence[Detection]) -> int:
    # Related phrases are single objects, so a phrase's number is also its row.
    count = 0
    for relation in relations:
        if relation.subject in match and relation.other in match:
            subject, other = found[match[relation.subject]], found[match[relation.other]]
            count += relation_holds(relation.kind, (subject.cx, subject.cy), (other.cx, other.cy))
    return count


def _asked(phrase: Phrase) -> int:
    """Return the number of requirements of one object: presence, shape, and each named attribute."""
    return 2 + sum(value is not None for value in (phrase.color, phrase.size, phrase.texture))


def _met(phrase: Phrase, obj: Detection) -> int:
    """Return how many of these requirements an object meets."""
    wanted = (phrase.shape, phrase.color, phrase.size, phrase.texture)
    actual = (obj.shape, obj.color, obj.size, obj.texture)
    return 1 + sum(w is not None and w == a for w, a in zip(wanted, actual, strict=True))
