"""``Reward``, the base class of rewards; sums, scales and minima of rewards; and the check of scores.

A reward is anything callable as ``reward(samples, prompts) -> Tensor [N]``, higher is better. A plain function
is one; a plugin subclasses :class:`Reward`.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer.errors import RewardError, SteerError, message_of
from steer.models.device import out_of_memory
from steer.models.media import media_of
from steer.models.room import bytes_of, in_equal_batches, moved, scored_at_once
from steer.prompts.prompt import Prompt
from steer.rewards.frames import USUAL, Frames, frames_of
from steer.rewards.isolation import copies, undisturbed
from steer.settings import options as declarations

log = logging.getLogger(__name__)

RewardFunction = Callable[[Any, Sequence[Prompt]], Tensor]


class Reward:
    """Base of reward plugins.

    A subclass implements :meth:`__call__`; it may set ``differentiable`` and declare ``Options``. An instance
    lives on one device, holds its weights, and may cache text work between calls.

    Attributes:
        modality: of the samples that it scores, one of :data:`steer.models.media.MEDIA`; ``None`` for any.
        differentiable: whether gradients flow from the score to float samples; an instance may set its own value.
        needs_prompt: whether the score depends on the prompt; if not, ``steer score`` needs none.
        frames: which frames of a video it scores, if it scores images, such as ``"uniform:4"``, and how.
        typical: mean and sd of the score over ordinary images, for ``NAME@z``; ``None`` if unknown.
        is_ready: whether it has been prepared.
        waits: whether its modules, which are those among its attributes, are on the CPU between scorings, to leave a
            GPU's memory to the model.
        Options: the declaration of the reward's options.
    """

    modality: ClassVar[str | None] = "image"
    differentiable: bool = False
    needs_prompt: ClassVar[bool] = True
    typical: ClassVar[tuple[float, float] | None] = None
    waits: bool = False
    frames: Frames | str = USUAL
    Options: ClassVar[type[declarations.Options]] = declarations.Options
    is_ready = _is_parked = False

    def __init__(
        self,
        options: declarations.Options | None = None,
        *,
        argument: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        later: bool = False,
    ) -> None:
        """Keep the arguments, then :meth:`prepare`.

        Args:
            options: validated options, or ``None`` for the defaults.
            argument: the text after the colon in ``clip:ViT-B-32/laion2b_s34b_b79k``, if any.
            device: to compute on.
            dtype: precision of its weights; ``None`` lets the reward choose.
            later: let :meth:`ready` prepare.
        """
        self.options = options if options is not None else self.Options()
        self.argument = argument
        self.device = torch.device(device)
        self.dtype = dtype
        if not later:
            self.ready()

    def ready(self) -> None:
        """Prepare, unless already done, and bring back what waits on the CPU.

        Raises:
            SteerError: see :meth:`prepare`.
        """
        if not self.is_ready:
            self.prepare()
            self.is_ready = True
        if self._is_parked:
            self._is_parked = False  # also if there is no room for all of it: parking takes back what came
            moved(self._held(), self.device)

    def park(self) -> bool:
        """Move its modules to the CPU until it is asked next; return whether they were elsewhere."""
        if self._is_parked or self.device.type == "cpu" or not self._held():
            return False
        moved(self._held(), torch.device("cpu"))
        self._is_parked = True
        return True

    def bytes_held(self) -> int:
        """Return the bytes of its modules."""
        return bytes_of(self._held())

    def _held(self) -> list[torch.nn.Module]:
        return [value for value in vars(self).values() if isinstance(value, torch.nn.Module)]

    def prepare(self) -> None:
        """Load the reward's weights; called once, when options, argument, device and dtype are known.

        Raises:
            SteerError: if they cannot be loaded.
        """

    def completed(self, prompt: Prompt) -> Prompt:
        """Return a prompt whose metadata hold everything that its score depends on: a recipe needs no other file.

        A file that the prompt names is read here, before anything is sampled.

        Raises:
            SteerError: for a prompt that cannot be scored.
        """
        return prompt

    def __call__(self, samples: Any, prompts: Sequence[Prompt]) -> Tensor:
        """Score samples.

        Args:
            samples: images as float ``[N, 3, H, W]`` in [0, 1], texts as :class:`steer.models.media.text.Texts`, videos
                as :class:`steer.models.media.video.Videos`.
            prompts: the N prompts; each is a ``str`` with ``id``, ``category`` and ``metadata``.

        Returns:
            Float ``[N]`` on the samples' device, higher is better, finite.
        """
        raise NotImplementedError

    def explained(self, samples: Any, prompts: Sequence[Prompt]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Score samples as a call does, and say what each score comes from.

        Returns:
            The scores ``[N]``, and plain data for each sample, such as ``{"reason": "1 dog, 2 asked"}``; empty if the
            score says all.
        """
        return self(samples, prompts), [{} for _ in prompts]


def parts_of(reward: RewardFunction) -> Iterator[Reward]:
    """Yield the rewards that a reward consists of, except plain functions."""
    if isinstance(reward, Combination):
        for part in reward.parts:
            yield from parts_of(part)
    elif isinstance(reward, Reward):
        yield reward


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


class Combination(Reward):
    """A reward made of others. It checks each of them separately, so that an error names the one at fault."""

    modality = None  # each part has its own modality

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


def score(
    name: str, reward: RewardFunction, samples: Any, prompts: Sequence[Prompt], *, step: int | None = None
) -> Tensor:
    """Call a reward, combined or not; raises as :func:`checked` does."""
    if isinstance(reward, Combination):
        return reward(samples, prompts, step=step)
    return checked(name, reward, samples, prompts, step=step)


def checked(
    name: str,
    reward: RewardFunction,
    samples: Any,
    prompts: Sequence[Prompt],
    *,
    step: int | None = None,
    details: list[dict[str, Any]] | None = None,
) -> Tensor:
    """Call a reward on copies of the samples, on a GPU in batches of its own, and check its scores: float ``[N]``,
    finite.

    Args:
        name: of the reward, for messages.
        reward: to call.
        samples: N samples.
        prompts: N prompts.
        step: of the sampling, for messages.
        details: gets what each score comes from (:meth:`Reward.explained`).

    Raises:
        RewardError: naming the reward, the prompt and the step. The traceback of a reward that raises goes to the log.
            A ``SteerError`` of the reward passes unchanged.
    """
    where = "on the final samples" if step is None else f"at step {step}"

    def batched(part: Any) -> Tensor:
        def call(some: Any, rows: Sequence[int]) -> Tensor:
            return _called(name, reward, some, [prompts[row] for row in rows], where, told)

        most = scored_at_once(part)
        if most is None or len(prompts) <= most:
            return _called(name, reward, part, prompts, where, told)
        scores: Tensor = in_equal_batches(call, part, most)
        return scores

    scores: Tensor | None = None
    told: list[dict[str, Any]] | None = None
    try:
        if isinstance(reward, Reward):
            reward.ready()
        frames = None if isinstance(reward, Combination) else frames_of(reward, samples)
        told = details if frames is None else None  # details are of images
        scores = batched(samples) if frames is None else frames.scores(samples, batched)
    finally:
        # a gradient still has to pass its weights
        if isinstance(reward, Reward) and reward.waits and (scores is None or not scores.requires_grad):
            reward.park()
    if details is not None:
        del details[len(prompts) :]  # of copies that filled a batch
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise RewardError(
            f"reward {name!r} returned {scores[row].item()} for prompt {_short(prompts[row])!r} ({where}); "
            "a score must be finite"
        )
    return scores


def _called(
    name: str,
    reward: RewardFunction,
    samples: Any,
    prompts: Sequence[Prompt],
    where: str,
    details: list[dict[str, Any]] | None = None,
) -> Tensor:
    """Call a reward on copies of the samples; return its scores as real floats ``[N]``."""
    try:
        with undisturbed():
            if details is not None and isinstance(reward, Reward):
                scores, found = reward.explained(*copies(samples, prompts))
                details += found
            else:
                scores = reward(*copies(samples, prompts))
    except (SteerError, KeyboardInterrupt):
        raise
    except BaseException as error:  # such as SystemExit, or the CancelledError of an asynchronous client
        if out_of_memory(error):
            raise
        log.debug("reward %s raised", name, exc_info=True)
        raise RewardError(
            f"reward {name!r} raised {type(error).__name__}: {message_of(error)} ({where}, prompts "
            f"{_some(prompts)}); its traceback is in the log (--log FILE)"
        ) from error
    count = len(prompts)
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise RewardError(
            f"reward {name!r} returned {got}, expected a tensor of shape ({count},), one score per sample ({where}, "
            f"prompts {_some(prompts)})"
        )
    if scores.is_complex():
        raise RewardError(f"reward {name!r} returned complex numbers ({where}); a score must be real")
    return scores if scores.is_floating_point() else scores.float()


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
