"""One adapter for the guiders of diffusers: what each does with a conditional and an unconditional prediction."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from steer import Field, Method, Options, SteerError, hookimpl
from steer.plugin import Run, message_of
from steer_guiders.span import Span, check_span, step_at, timesteps_of


@functools.cache
def _quiet() -> None:
    """Keep diffusers from saying with every guider that guiders are experimental."""
    logging.getLogger("diffusers.guiders.guider_utils").setLevel(logging.ERROR)


class GuiderOptions(Span):
    """Options of every guider."""

    rescale: float = Field(
        0.0, ge=0, le=1, description="Share of the guided prediction that gets the conditional one's sd back "
        "(arXiv 2305.08891, section 3.4).",
    )  # fmt: skip


class Guider(Method):
    """Guidance by a guider of diffusers; the scale is the run's, and evaluations are those of plain guidance."""

    Options: ClassVar[type[Options]] = GuiderOptions
    options: GuiderOptions
    guider: ClassVar[str]
    """The class in ``diffusers.guiders``."""
    flat: ClassVar[bool] = False
    """Whether it sees each prediction as one vector."""

    @hookimpl
    def configure(self, run: Run) -> None:
        """Guide the run's predictions; a mistake in the options is told here."""
        check_span(self)
        self._run, self._made = run, dict[float, Any]()
        self._guider(float(run.get(run.backbone.cfg_setting)))
        run.guide_by(self.guided, by=self.name)

    @functools.cached_property
    def _timesteps(self) -> list[float]:
        """Those of the schedule, once all methods have configured it."""
        return timesteps_of(self._run)

    def guided(self, cond: Tensor, uncond: Tensor, guidance_scale: float, timestep: Tensor) -> Tensor:
        """Return the guided prediction ``[B, …]``; every row by itself."""
        guider = self._guider(guidance_scale)
        guider.set_state(step_at(self._timesteps, timestep), len(self._timesteps), timestep)
        shape = cond.shape
        if self.flat:
            cond, uncond = cond.flatten(1), uncond.flatten(1)
        guided: Tensor = guider.forward(cond, uncond).pred
        return guided.reshape(shape)

    def _guider(self, guidance_scale: float) -> Any:
        if guidance_scale not in self._made:
            from diffusers import guiders

            kind = getattr(guiders, self.guider, None)
            if kind is None:
                raise SteerError(f"{self.name} needs {self.guider}, which this diffusers lacks; update diffusers")
            common = {name: getattr(self.options, name) for name in ("start", "stop")}
            try:
                _quiet()
                guider = kind(**common, guidance_rescale=self.options.rescale, **self.arguments(guidance_scale))
            except ImportError as error:
                raise SteerError(f"{self.name} cannot be made: {message_of(error)}") from error
            self._made[guidance_scale] = guider
        return self._made[guidance_scale]

    def arguments(self, guidance_scale: float) -> Mapping[str, Any]:
        """Return the arguments of its class."""
        return {"guidance_scale": guidance_scale}


class APGOptions(GuiderOptions):
    """Options of ``apg``."""

    eta: float = Field(0.0, ge=0, le=1, description="Weight of the part along the conditional prediction.")
    norm: float = Field(15.0, ge=0, description="Most length of the difference of the two predictions; 0 for no limit.")


class APG(Guider):
    """Adaptive projected guidance (arXiv 2410.02416). It has no momentum, which would outlive a resampled particle."""

    name = "apg"
    Options = APGOptions
    options: APGOptions
    guider = "AdaptiveProjectedGuidance"

    def arguments(self, guidance_scale: float) -> Mapping[str, Any]:
        return {
            "guidance_scale": guidance_scale,
            "eta": self.options.eta,
            "adaptive_projected_guidance_rescale": self.options.norm,
        }


class CFGZeroOptions(GuiderOptions):
    """Options of ``cfg-zero``."""

    zero_steps: int = Field(1, ge=0, le=100, description="First steps whose prediction is zero.")


class CFGZERO(Guider):
    """CFG-Zero* (arXiv 2503.18886)."""

    name = "cfg-zero"
    Options = CFGZeroOptions
    options: CFGZeroOptions
    guider = "ClassifierFreeZeroStarGuidance"

    def arguments(self, guidance_scale: float) -> Mapping[str, Any]:
        return {"guidance_scale": guidance_scale, "zero_init_steps": self.options.zero_steps}


class FDGOptions(GuiderOptions):
    """Options of ``fdg``."""

    low: float = Field(0.5, ge=0, description="Scale of low frequencies, as a share of --guidance.")


class FDG(Guider):
    """Frequency-decoupled guidance (arXiv 2506.19713); needs kornia."""

    name = "fdg"
    Options = FDGOptions
    options: FDGOptions
    guider = "FrequencyDecoupledGuidance"

    def arguments(self, guidance_scale: float) -> Mapping[str, Any]:
        return {"guidance_scales": [guidance_scale, self.options.low * guidance_scale]}


class MAGOptions(GuiderOptions):
    """Options of ``mag``."""

    alpha: float = Field(8.0, ge=0, description="How fast guidance falls with the distance of the two predictions.")


class MAG(Guider):
    """Magnitude-aware guidance, MAMBO-G (arXiv 2508.03442)."""

    name = "mag"
    Options = MAGOptions
    options: MAGOptions
    guider = "MagnitudeAwareGuidance"
    flat = True  # it takes a norm over all but the first dimension, which torch refuses for more than two

    def arguments(self, guidance_scale: float) -> Mapping[str, Any]:
        return {"guidance_scale": guidance_scale, "alpha": self.options.alpha}


class TCFG(Guider):
    """Tangential damping of classifier-free guidance (arXiv 2503.18137)."""

    name = "tcfg"
    guider = "TangentialClassifierFreeGuidance"
