"""What a model family does for the sampler."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.prompts import Prompt


@dataclass(frozen=True)
class Conditioning:
    """Encoded inputs of J prompts.

    Attributes:
        cond: name to ``[J, …]``.
        uncond: the same for the empty or negative prompt, ``None`` where guidance is off.
        guidance_scale: applied by :meth:`Backbone.predict`.
    """

    cond: Mapping[str, Tensor]
    uncond: Mapping[str, Tensor] | None
    guidance_scale: float

    @property
    def guided(self) -> bool:
        """Whether a prediction takes two evaluations."""
        return self.uncond is not None

    def rows(self, jobs: Tensor) -> Conditioning:
        """Return one row for each index into the prompts."""

        def take(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[jobs.to(value.device)] for name, value in tensors.items()}

        return Conditioning(take(self.cond), None if self.uncond is None else take(self.uncond), self.guidance_scale)

    def batched(self, name: str) -> Tensor:
        """Return a tensor of both halves in the order that pipelines use: unconditional first."""
        if self.uncond is None:
            return self.cond[name]
        return torch.cat([self.uncond[name], self.cond[name]])


class Backbone(abc.ABC):
    """One model family over a diffusers pipeline: conditioning in, prediction and samples out.

    Immutable: other weights are named views in ``denoisers``, sharing encoder and decoder.

    Attributes:
        pipe: the pipeline whose parts are used.
        denoisers: modules by name; ``"base"`` is the pipeline's own.
        scheduler: the pipeline's scheduler, a prototype that is never stepped.
        device: where the denoiser computes, as it was when the backbone was made.
    """

    default_steps = 50
    default_guidance = 7.5

    def __init__(self, pipe: Any, denoiser: torch.nn.Module) -> None:
        self.pipe = pipe
        self.scheduler = pipe.scheduler
        self.denoisers: dict[str, torch.nn.Module] = {"base": denoiser}
        # with offloading the weights may be elsewhere; asked once, for the pipeline walks all its modules to tell
        self.device: torch.device = pipe._execution_device

    @abc.abstractmethod
    def guided(self, guidance_scale: float) -> bool:
        """Whether this scale means two evaluations a prediction."""

    @abc.abstractmethod
    def encode(self, prompts: Sequence[Prompt], negative: Sequence[str], guidance_scale: float) -> Conditioning:
        """Encode J prompts and their negative prompts, one by one, so that none depends on its neighbours."""

    @abc.abstractmethod
    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        """Return the shape of one particle's latents for an image of the given size in pixels.

        Raises:
            SteerError: for a size that the model cannot make.
        """

    @abc.abstractmethod
    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's output ``[B, …]`` in fp32 for scaled latents, guidance applied."""

    @abc.abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Decode final latents ``[B, …]`` to samples; images are float ``[B, 3, H, W]`` in [0, 1]."""

    def spatial(self, x: Tensor) -> Tensor:
        """Return latents as ``[B, C, H, W]``, as the denoiser has them, for a preview decoder."""
        return x

    def timestep_keywords(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """Return what the scheduler's ``set_timesteps`` wants besides the steps (a flow's shift, for example)."""
        return {}


def check_size(width: int, height: int, multiple: int) -> None:
    """Raise unless both sides are positive multiples of ``multiple`` pixels."""
    for name, value in (("width", width), ("height", height)):
        if value < multiple or value % multiple:
            near = max(multiple, round(value / multiple) * multiple)
            raise SteerError(
                f"{name}={value} does not fit the model: expected a multiple of {multiple}, such as {near}"
            )
