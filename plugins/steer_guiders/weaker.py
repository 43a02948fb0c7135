"""Guidance away from a prediction that changed layers make worse: PAG, SEG and SLG."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from steer import Field, Method, Options, SteerError, hookimpl
from steer.plugin import Conditioning, Predict, Run
from steer_guiders import layers
from steer_guiders.span import Span, check_span, step_at, timesteps_of

LAYERS = (
    "Layers to change: numbers of transformer blocks, or words of their names, such as mid or up_blocks.1; with a "
    "comma between them."
)
Names = tuple[int | str, ...]


class WeakerOptions(Span):
    """Options of every method here."""

    scale: float = Field(3.0, ge=0, description="Weight of the conditional prediction's lead over the weaker one.")
    layers: Names | None = Field(None, description=f"{LAYERS} Default: mid in a UNet, 1 in a transformer.")


class Away(Method):
    """A method that guides away from a weaker prediction, with classifier-free guidance or without."""

    Options: ClassVar[type[Options]] = WeakerOptions
    options: Any

    @hookimpl
    def configure(self, run: Run) -> None:
        """Guide the run's predictions; a layer that does not exist is told here."""
        check_span(self)
        self._run = run
        run.guide_away(self, by=self.name)
        self.found(run.backbone.denoisers["base"])

    @property
    def scale(self) -> float:
        """Weight of the lead."""
        return float(self.options.scale)

    @functools.cached_property
    def _timesteps(self) -> list[float]:
        """Those of the schedule, once all methods have configured it."""
        return timesteps_of(self._run)

    def acts(self, timestep: Tensor) -> bool:
        """Whether it guides at a timestep."""
        share = step_at(self._timesteps, timestep) / len(self._timesteps)
        return bool(self.scale and self.options.start <= share < self.options.stop)

    def named(self, denoiser: nn.Module) -> Sequence[str]:
        """Return the layers to change."""
        if self.options.layers is not None:
            return [str(layer) for layer in self.options.layers]
        return ["mid_block" if hasattr(denoiser, "mid_block") else "1"]

    def found(self, denoiser: nn.Module) -> list[Any]:
        """Return the modules to change."""
        raise NotImplementedError

    def predictions(
        self, predict: Predict, denoiser: nn.Module, x: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        """Return the conditional prediction and the weaker one ``[B, …]``."""
        raise NotImplementedError


class PAG(Away):
    """Perturbed-attention guidance (arXiv 2403.17377): in some self-attentions, each pixel attends to itself alone."""

    name = "pag"

    def found(self, denoiser: nn.Module) -> list[Any]:
        return layers.attentions(denoiser, self.named(denoiser), layers.PERTURBED, self.name)

    def predictions(
        self, predict: Predict, denoiser: nn.Module, x: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        twice = conditioning.rows(torch.arange(len(x)).repeat(2))
        with layers.perturbed(self.found(denoiser)):  # diffusers' processors perturb the second half
            cond, weak = predict(torch.cat([x, x]), twice).chunk(2)
        return cond, weak


class SEGOptions(WeakerOptions):
    """Options of ``seg``."""

    sigma: float | None = Field(
        None, gt=0, description="Standard deviation of the blur, in pixels of the layer; none for the mean of all."
    )


class SEG(Away):
    """Smoothed-energy guidance (arXiv 2408.00760): some self-attentions see blurred queries."""

    name = "seg"
    Options = SEGOptions

    def found(self, denoiser: nn.Module) -> list[Any]:
        return layers.attentions(denoiser, self.named(denoiser), {"AttnProcessor": 0, "AttnProcessor2_0": 0}, self.name)

    def predictions(
        self, predict: Predict, denoiser: nn.Module, x: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        cond = predict(x, conditioning)
        sigma = float("inf") if self.options.sigma is None else self.options.sigma
        with layers.blurred(self.found(denoiser), sigma, (x.shape[-2], x.shape[-1])):
            return cond, predict(x, conditioning)


class SLGOptions(WeakerOptions):
    """Options of ``slg``."""

    scale: float = Field(2.8, ge=0, description="Weight of the conditional prediction's lead over the weaker one.")
    layers: Names = Field((7, 8, 9), description=f"{LAYERS} The default is for SD3.5 Medium.")
    start: float = Field(0.01, ge=0, lt=1, description="Share of the steps from which to guide.")
    stop: float = Field(0.2, gt=0, le=1, description="Share of the steps after which not to guide.")


class SLG(Away):
    """Skip-layer guidance of SD3.5: some transformer blocks are left out."""

    name = "slg"
    Options = SLGOptions

    @hookimpl
    def configure(self, run: Run) -> None:
        """As above; offloaded groups bring the next group with them, which a block left out would not."""
        if run.backbone.leaves_early:
            raise SteerError("slg leaves out layers that --offload group counts on; use --offload model or sequential")
        super().configure(run)

    def found(self, denoiser: nn.Module) -> list[Any]:
        return layers.blocks(denoiser, self.named(denoiser), self.name)

    def predictions(
        self, predict: Predict, denoiser: nn.Module, x: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        cond = predict(x, conditioning)
        with layers.skipped(self.found(denoiser)):
            return cond, predict(x, conditioning)
