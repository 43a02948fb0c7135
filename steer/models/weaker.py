"""``Weaker``: guidance away from a prediction that is worse on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from steer.models.encoded_prompts import Conditioning

Predict = Callable[[Tensor, Conditioning], Tensor]
"""The denoiser's output ``[B, …]`` for scaled latents ``[B, …]`` and the conditioning of each row."""


class Weaker(Protocol):
    """Where it acts, ``scale`` times the conditional prediction's lead over the weaker one is added to the prediction,
    which may have classifier-free guidance or not. It costs one evaluation more."""

    @property
    def scale(self) -> float:
        """Weight of the lead; 0 changes nothing."""

    def acts(self, timestep: Tensor) -> bool:
        """Whether it guides at a timestep of the schedule."""

    def predictions(
        self, predict: Predict, denoiser: nn.Module, x: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        """Return the conditional prediction and the weaker one, ``[B, …]`` each, in two evaluations per row.

        Args:
            predict: calls the denoiser.
            denoiser: is left as it was, after errors too.
            x: scaled latents ``[B, …]``.
            conditioning: of each row, without guidance.
        """
