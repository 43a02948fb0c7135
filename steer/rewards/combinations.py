"""Sums, scales and minima of rewards, and what holds for all rewards that one consists of."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.media import media_of
from steer.prompts.prompt import Prompt
from steer.rewards.checked import checked
from steer.rewards.reward import Reward, RewardFunction


class Combination(Reward):
    """A reward made of others. It checks each of them separately, so that an error names the one at fault."""

    modality = frames = None  # each part has its own

    def __init__(self) -> None:
        super().__init__(later=True)

    @property
    def parts(self) -> Sequence[RewardFunction]:
        """Its parts."""
        raise NotImplementedError

    @property
    def is_differentiable(self) -> bool:
        """Whether every part is differentiable."""
        return all(is_differentiable(part) for part in self.parts)

    def prepare(self) -> None:
        """Prepare every part."""
        for part in self.parts:
            if isinstance(part, Reward):
                part.ready()

    def completed(self, prompt: Prompt) -> Prompt:
        """Return a prompt with the metadata that every part needs."""
        for part in self.parts:
            if isinstance(part, Reward):
                if type(part).completed not in (Reward.completed, Combination.completed) and not part.is_ready:
                    part.ready()  # a part may complete prompts by its weights, wherever they wait
                prompt = part.completed(prompt)
        return prompt

    def __call__(self, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None) -> Tensor:
        """Score samples; ``step`` is for messages."""
        raise NotImplementedError


class WeightedSum(Combination):
    """Weighted sum of rewards. With one term of weight 1 it is that reward."""

    def __init__(self, terms: Sequence[tuple[str, float, RewardFunction]]) -> None:
        """Args: terms: (name, weight, reward) of each summand."""
        super().__init__()
        self.terms = tuple(terms)

    @property
    def name(self) -> str:
        """The expression that names this sum."""
        return "+".join(name if weight == 1 else f"{name}:{weight:g}" for name, weight, _ in self.terms)

    @property
    def parts(self) -> Sequence[RewardFunction]:
        """The terms' rewards."""
        return [reward for _, _, reward in self.terms]

    def __call__(self, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None) -> Tensor:
        """Return the sum ``[N]``."""
        total: Tensor | None = None
        for name, weight, reward in self.terms:
            scores = weight * score(name, reward, samples, prompts, step=step)
            total = scores if total is None else total + scores
        assert total is not None
        return total

    def explained(self, samples: Any, prompts: Sequence[Prompt]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the sums ``[N]``, and what each comes from: the data of one reward, or those of several by name."""
        total, rows = torch.zeros(len(prompts)), [dict[str, Any]() for _ in prompts]
        for name, weight, reward in self.terms:
            if isinstance(reward, Reward) and not isinstance(reward, Combination):
                details: list[dict[str, Any]] = []
                scores = checked(name, reward, samples, prompts, details=details)
                for row, detail in zip(rows, details, strict=False):  # those of a video are not told
                    row |= detail if len(self.terms) == 1 else {name: detail} if detail else {}
            else:
                scores = score(name, reward, samples, prompts)
            total = total.to(scores) + weight * scores
        return total, rows


class Scaled(Combination):
    """A reward on a stated scale: ``(score − center) / width``. It never looks at the rest of a batch."""

    def __init__(self, name: str, reward: RewardFunction, center: float, width: float) -> None:
        """Args: name: the reward's, for messages; center: becomes 0; width: becomes 1, positive."""
        super().__init__()
        self.name, self.reward, self.center, self.width = name, reward, center, width

    @property
    def parts(self) -> Sequence[RewardFunction]:
        """The scaled reward."""
        return [self.reward]

    def __call__(self, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None) -> Tensor:
        """Return the scaled scores ``[N]``."""
        return (score(self.name, self.reward, samples, prompts, step=step) - self.center) / self.width


class Least(Combination):
    """The minimum of several sums per sample; the gradient is that of the smallest."""

    def __init__(self, sums: Sequence[WeightedSum]) -> None:
        """Args: sums: one or more."""
        super().__init__()
        self.sums = tuple(sums)

    @property
    def parts(self) -> Sequence[RewardFunction]:
        """The sums."""
        return self.sums

    def __call__(self, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None) -> Tensor:
        """Return the smallest scores ``[N]``."""
        return torch.stack([part(samples, prompts, step=step) for part in self.sums]).amin(dim=0)


def score(
    name: str, reward: RewardFunction, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None
) -> Tensor:
    """Call a reward, combined or not; raises as :func:`checked` does."""
    if isinstance(reward, Combination):
        return reward(samples, prompts, step=step)
    return checked(name, reward, samples, prompts, step=step)


def parts_of(reward: RewardFunction) -> Iterator[Reward]:
    """Yield the rewards that a reward consists of, except plain functions."""
    return (part for _, part in named_parts("", reward))


def named_parts(name: str, reward: RewardFunction) -> Iterator[tuple[str, Reward]]:
    """Yield the rewards that a reward consists of, except plain functions, each with its own name.

    Args:
        name: of the reward, if it has no parts.
    """
    if isinstance(reward, WeightedSum):
        for term, _, part in reward.terms:
            yield from named_parts(term, part)
    elif isinstance(reward, Combination):
        for part in reward.parts:
            yield from named_parts(reward.name if isinstance(reward, Scaled) else name, part)
    elif isinstance(reward, Reward):
        yield name, reward


def is_differentiable(reward: RewardFunction) -> bool:
    """Whether a reward declares that gradients flow from its score to the samples."""
    if isinstance(reward, Combination):
        return reward.is_differentiable
    return bool(getattr(reward, "differentiable", False))


def without_gradient(name: str, reward: RewardFunction) -> str | None:
    """Return the name of a part that declares itself not differentiable; a plain function declares nothing."""
    if isinstance(reward, WeightedSum):
        found = (without_gradient(part_name, part) for part_name, _, part in reward.terms)
    elif isinstance(reward, Scaled):
        return without_gradient(reward.name, reward.reward)
    elif isinstance(reward, Combination):
        found = (without_gradient(name, part) for part in reward.parts)
    else:
        return None if getattr(reward, "differentiable", True) else name
    return next((part for part in found if part is not None), None)


def check_modality(name: str, reward: object, modality: str, who: str = "this model makes") -> None:
    """Raise if a reward or its class declares another modality than the model's, or than that of its samples' parts:
    a reward of images scores frames of videos. A function need not declare one.

    Raises:
        SteerError: naming both.
    """
    if isinstance(reward, Combination):
        for part in reward.parts:
            check_modality(getattr(part, "name", None) or type(part).__name__, part, modality, who)
    wanted = getattr(reward, "modality", None)
    if wanted is not None and wanted not in (modality, media_of(modality).made_of):
        scored, made = media_of(wanted).plural, media_of(modality).plural
        raise SteerError(
            f"reward {name!r} scores {scored}, and {who} {made}; steer plugins lists the rewards of {made}"
        )
