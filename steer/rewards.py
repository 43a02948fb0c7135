"""Rewards: what scores samples, how several combine, and how a score is checked.

A reward is anything callable as ``reward(samples, prompts) -> Tensor [N]``, higher is better. A plain function
is one; a plugin subclasses :class:`Reward`.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer import options as declarations
from steer.errors import RewardError, SteerError
from steer.prompts import Prompt

log = logging.getLogger(__name__)

RewardFunction = Callable[[Any, Sequence[Prompt]], Tensor]


class Reward:
    """Base of reward plugins.

    A subclass implements :meth:`__call__`; it may set ``differentiable`` and declare ``Options``. An instance
    lives on one device, holds its weights, and may cache text work between calls.

    Attributes:
        differentiable: whether gradients flow from the score to float samples.
        Options: the declaration of the reward's options.
    """

    differentiable: ClassVar[bool] = False
    Options: ClassVar[type[declarations.Options]] = declarations.Options

    def __init__(
        self,
        options: declarations.Options | None = None,
        *,
        argument: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        """Load what the reward needs.

        Args:
            options: validated options, or ``None`` for the defaults.
            argument: the text after the colon in ``clip:ViT-B-32/laion2b_s34b_b79k``, if any.
            device: where the reward computes.
            dtype: precision of its weights; ``None`` lets the reward choose.
        """
        self.options = options if options is not None else self.Options()
        self.argument = argument
        self.device = torch.device(device)
        self.dtype = dtype

    def __call__(self, samples: Any, prompts: Sequence[Prompt]) -> Tensor:
        """Score samples.

        Args:
            samples: for images float ``[N, 3, H, W]`` in [0, 1].
            prompts: the N prompts; each is a ``str`` with ``id``, ``category`` and ``metadata``.

        Returns:
            Float ``[N]`` on the samples' device, higher is better, finite.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Term:
    """One term of a reward expression: ``clip:shapes:0.5`` is ``("clip", "shapes", 0.5)``."""

    name: str
    argument: str | None = None
    weight: float = 1.0

    def __str__(self) -> str:
        text = self.name if self.argument is None else f"{self.name}:{self.argument}"
        return text if self.weight == 1.0 else f"{text}:{self.weight:g}"


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_JOIN = re.compile(r"\+(?=[A-Za-z_./~])")  # not the + of 1e+3


def parse_expression(expression: str) -> list[Term]:
    """Parse ``name[:argument][:weight]`` terms joined by ``+``.

    >>> parse_expression("shapes:1+clip:shapes:0.5")
    [Term(name='shapes', argument=None, weight=1.0), Term(name='clip', argument='shapes', weight=0.5)]

    Raises:
        SteerError: for an empty term or one with more parts than three.
    """
    terms = []
    for piece in _JOIN.split(expression.strip()):
        name, *parts = piece.strip().split(":")
        weight = 1.0
        if parts and _NUMBER.fullmatch(parts[-1]):
            weight = float(parts.pop())
        if not name or any(not part for part in parts):
            raise SteerError(
                f"reward {expression!r}: cannot read {piece!r}; expected NAME, NAME:WEIGHT, NAME:ARGUMENT or "
                "NAME:ARGUMENT:WEIGHT, joined by + (for example shapes:1+clip:0.5)"
            )
        terms.append(Term(name, ":".join(parts) or None, weight))
    return terms


class WeightedSum(Reward):
    """Sum of rewards, each times its weight. With one term of weight 1 it is that reward."""

    def __init__(self, terms: Sequence[tuple[str, float, RewardFunction]]) -> None:
        """Args: terms: (name, weight, reward) of each summand."""
        super().__init__()
        self.terms = tuple(terms)

    @property
    def name(self) -> str:
        """The expression that names this sum."""
        return "+".join(name if weight == 1 else f"{name}:{weight:g}" for name, weight, _ in self.terms)

    @property
    def is_differentiable(self) -> bool:
        """Whether every term is."""
        return all(getattr(reward, "differentiable", False) for _, _, reward in self.terms)

    def __call__(self, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None) -> Tensor:
        """Score; every term is checked on its own, so that an error names the term at fault."""
        total: Tensor | None = None
        for name, weight, reward in self.terms:
            scores = weight * checked(name, reward, samples, prompts, step=step)
            total = scores if total is None else total + scores
        assert total is not None
        return total


def checked(
    name: str, reward: RewardFunction, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None
) -> Tensor:
    """Call a reward and check what it returns: float ``[N]``, finite.

    Raises:
        RewardError: naming the reward, the prompt and the step. The traceback of a reward that raises goes to
            the log; a mistake of the user's that the reward itself reports (``SteerError``) passes unchanged.
    """
    where = "on the final samples" if step is None else f"at step {step}"
    try:
        scores = reward(samples, prompts)
    except SteerError:
        raise
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        log.debug("reward %s raised", name, exc_info=True)
        raise RewardError(
            f"reward {name!r} raised {type(error).__name__}: {_line(error)} ({where}, prompts "
            f"{_some(prompts)}); its traceback is in the log (--log FILE)"
        ) from error
    count = len(prompts)
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise RewardError(
            f"reward {name!r} returned {got}, expected a tensor of shape ({count},), one score a sample ({where}, "
            f"prompts {_some(prompts)})"
        )
    if not scores.is_floating_point():
        scores = scores.float()
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise RewardError(
            f"reward {name!r} returned {scores[row].item()} for prompt {_short(prompts[row])!r} ({where}); "
            "a score must be finite"
        )
    return scores


def as_function(name: str, value: object) -> RewardFunction:
    """Return ``value`` as a reward: an instance, a function of (samples, prompts), or a ``Reward`` class."""
    if inspect.isclass(value) and issubclass(value, Reward):
        return value()
    if not callable(value):
        raise SteerError(f"reward {name!r} is a {type(value).__name__}, expected a function or a steer.Reward")
    return value


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _some(prompts: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(prompts))
    rest = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
    return f"{_short(distinct[0])!r}{rest}"


def _line(error: BaseException) -> str:
    return _short(" ".join(str(error).split()), 160)
