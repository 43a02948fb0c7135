"""``Reward``, the base class of rewards.

A reward is anything callable as ``reward(samples, prompts) -> Tensor [N]``, higher is better. A plain function
is one; a plugin subclasses :class:`Reward`.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.device import dtype_name
from steer.models.fingerprints import fingerprint
from steer.models.room import bytes_of, moved
from steer.prompts.prompt import Prompt
from steer.rewards.frames import USUAL, Frames
from steer.settings import options as declarations

RewardFunction = Callable[[Any, Sequence[Prompt]], Tensor]


class Reward:
    """Base of reward plugins.

    A subclass implements :meth:`__call__`; it may set ``differentiable`` and declare ``Options``. An instance
    lives on one device, holds its weights, and may cache text work between calls.

    Attributes:
        modality: of the samples that it scores, one of :data:`steer.models.media.MEDIA`; ``None`` for any.
        differentiable: whether gradients flow from the score to float samples; an instance may set its own value.
        needs_prompt: whether the score depends on the prompt; if not, ``steer score`` needs none.
        frames: which frames of a video it scores, if it scores images, such as ``"uniform:4"``, and how;
            ``None`` for a reward that takes every video whole.
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
    frames: Frames | str | None = USUAL
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

    def digest(self) -> tuple[str, str] | None:
        """Return the precision of most weights in its modules, and a digest of some numbers of each; ``None`` if it has
        none."""
        held = torch.nn.ModuleList(self._held())
        precisions = Counter(weight.dtype for weight in held.parameters())
        if not precisions:
            return None
        ((most, _),) = precisions.most_common(1)
        return dtype_name(most) or str(most).removeprefix("torch."), fingerprint(held)

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


def as_function(name: str, value: object) -> RewardFunction:
    """Return ``value`` as a reward: an instance, a function of (samples, prompts), or a ``Reward`` class."""
    if inspect.isclass(value) and issubclass(value, Reward):
        return value()
    if not callable(value):
        raise SteerError(f"reward {name!r} is a {type(value).__name__}, expected a function or a steer.Reward")
    return value
