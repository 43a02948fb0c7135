"""A run's reward as CARINOX takes it: single rewards on a scale of about 0..1, each with a base weight."""

from __future__ import annotations

from dataclasses import dataclass

from steer import SteerError
from steer.plugin import RewardFunction, Scaled, WeightedSum, no_gradient, without_gradient

SCALES: dict[str, tuple[float, float]] = {
    "hps": (0.0, 0.5), "imagereward": (-3.0, 6.0), "clip": (0.0, 100.0), "pickscore": (0.0, 100.0),
    "aesthetic": (0.0, 10.0),
}  # fmt: skip
"""What becomes 0, and the width that becomes 1, of rewards that no scale is written for. HPS and ImageReward as
published (2·s and (s + 3)/6); the others by their definition: 100·cosine, and marks up to 10."""

BASE_WEIGHTS = {"hps": 5.0, "imagereward": 5.0, "vqa": 1.0, "da": 5.0}
"""Published base weights; of any other reward 1."""


@dataclass(frozen=True)
class Term:
    """One reward of the sum.

    Attributes:
        label: as written, without scale and weight: what a table of weights calls it, as it is or by its name.
        name: the reward's name alone.
        reward: on its scale, r̂.
        base: its weight before the category's.
        written: the weight in the run's own reward.
        center: of the scale that was put on here; the raw score is r̂·width + center.
        width: see ``center``.
    """

    label: str
    name: str
    reward: RewardFunction
    base: float
    written: float
    center: float = 0.0
    width: float = 1.0


def terms_of(reward: WeightedSum) -> list[Term]:
    """Take a run's reward apart.

    Weights that are all left out (``hps+imagereward``) are the published base weights; as soon as one is written
    (``hps:2+imagereward``), all count as they stand. A scale that is written (``hps@0.1..0.4``) replaces the usual one.

    Raises:
        SteerError: for a reward without gradient, named twice, or with a weight that is not positive.
    """
    as_published = all(weight == 1 for _, weight, _ in reward.terms)
    terms: list[Term] = []
    for written_name, weight, part in reward.terms:
        lacking = without_gradient(written_name, part)
        if lacking is not None:
            raise no_gradient(lacking)
        if weight <= 0:
            raise SteerError(
                f"carinox: the reward {written_name!r} has the weight {weight:g}; give a positive one, or leave it out"
            )
        scaled = isinstance(part, Scaled)
        label = part.name if isinstance(part, Scaled) else written_name
        name = label.partition(":")[0]
        if any(term.label == label for term in terms):
            raise SteerError(f"carinox: the reward {label!r} is named twice; give it once, with the sum of its weights")
        center, width = (0.0, 1.0) if scaled else SCALES.get(name, (0.0, 1.0))
        terms.append(
            Term(
                label=label,
                name=name,
                reward=part if (center, width) == (0.0, 1.0) else Scaled(label, part, center, width),
                base=BASE_WEIGHTS.get(name, 1.0) if as_published else weight,
                written=weight,
                center=center,
                width=width,
            )
        )
    return terms
