"""A run's reward as CARINOX takes it: single rewards on a scale of about 0..1, each with a base weight."""

from dataclasses import dataclass

from steer import SteerError
from steer.plugin import RewardFunction, Scaled, WeightedSum, no_gradient, without_gradient

SCALES: dict[str, tuple[float, float]] = {
    "hps": (0.0, 0.5), "imagereward": (-3.0, 6.0), "clip": (0.0, 100.0), "pickscore": (0.0, 100.0),
    "aesthetic": (0.0, 10.0),
}  # fmt: skip
"""By reward: the score that becomes 0, and the width that becomes 1, if the user writes no scale. HPS and ImageReward
are as published (2·s and (s + 3)/6); the others follow from their definitions: 100·cosine, and ratings up to 10."""

BASE_WEIGHTS = {"hps": 5.0, "imagereward": 5.0, "vqa": 1.0, "da": 5.0}
"""Published base weights; any other reward has 1."""


@dataclass(frozen=True)
class Term:
    """One reward of the sum.

    Attributes:
        label: as written, without scale and weight; a table of weights lists it by this label or by its name.
        name: the reward's name alone.
        reward: the scaled reward r̂.
        base: its weight before the category's multiplier.
        written: the weight in the run's own reward.
        center: of the scale that was applied here; the raw score is r̂·width + center.
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
    """Split a run's reward into terms.

    If all weights are left out (``hps+imagereward``), the published base weights apply. If any weight is written
    (``hps:2+imagereward``), all count as written. A written scale (``hps@0.1..0.4``) replaces the usual one.

    Raises:
        SteerError: if a reward is not differentiable, is named twice, or has a weight that is not positive.
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
