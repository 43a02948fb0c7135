"""The one declaration of FK steering's options."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from steer import Field, Options

GLASS = {"potential": "adaptive", "lambda": 4.0, "ess_target": 0.3, "keep": 0.5, "start": 0.1, "end": 0.1}
"""What ``fk.preset=glass`` changes, unless it is given."""
TRANSITIONS = 2
"""Stochastic transitions of ``fk.preset=glass``, unless the run has its own."""


class FKOptions(Options):
    """Options of ``fk``."""

    preset: Literal["glass"] | None = Field(
        None,
        description="Other defaults: glass has two stochastic transitions of the steps (GLASS, arXiv 2509.25170); it "
        "halves the particles after the first tenth of the steps and between the transitions (keep=0.5), with "
        "potential=adaptive, ess_target=0.3 and lambda=4. Best with few steps, such as 7 or 10, and 4, 8 or 16 "
        "particles.",
    )
    particles: int = Field(4, ge=2, le=65_536, description="Particles per prompt; --particles means the same.")
    potential: Literal["diff", "max", "add", "rt", "adaptive"] = Field(
        "max",
        description="Which of a particle's past rewards determine its weight. adaptive takes the last one, and chooses "
        "the strength on the way by itself (ess_target), so that the reward's scale does not matter.",
    )
    lam: float = Field(
        10.0, ge=0, le=1e6, alias="lambda", description="Strength of the tilt: the target is p(x)·exp(lambda·reward)."
    )
    start: float = Field(0.2, ge=0, le=1, description="Share of the steps after which resampling begins.")
    end: float = Field(0.8, ge=0, le=1, description="Share of the steps after which resampling ends.")
    every: float = Field(0.2, gt=0, le=1, description="Share of the steps between resamplings.")
    at: tuple[int, ...] | None = Field(
        None, description="Steps to resample at (counted from 0), instead of start, end and every."
    )
    ess_threshold: float = Field(
        1.0, ge=0, le=1, description="Resample if ESS is at most this share of the particles; 1 means always, 0 never."
    )
    ess_target: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Of potential=adaptive: each resampling takes the greatest strength that leaves an ESS of this "
        "share of the particles; lambda holds at the end.",
    )
    keep: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the particles that each resampling keeps, rounded up (a funnel): with less than 1, more "
        "particles can begin at the same cost. A scheduled step within a transition (--transitions) draws without "
        "copies; the next transition begins with a resampling.",
    )
    scheme: Literal["multinomial", "stratified", "systematic", "residual"] = Field(
        "systematic", description="Resampling scheme, which draws the ancestors."
    )
    min_entropy: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Flatten the resampling distribution until its entropy is this share of the maximum (entropic "
        "annealing, arXiv 2510.05825); 0 turns this off.",
    )
    lookahead: int = Field(
        0,
        ge=0,
        le=1000,
        description="Denoiser evaluations to denoise a particle further, without noise, before it is scored "
        "(look-ahead modulation); 0 scores the estimate of x0.",
    )
    reward_min: float = Field(
        0.0, description="Initial reward of a particle for diff and max; max ignores lower rewards until the end."
    )

    draws: int = Field(
        4, ge=1, le=4096, description="Draws of x0 per particle to score before the end, if x0 is random."
    )
    pool: Literal["exp", "tilt"] = Field(
        "exp",
        description="How the draws' rewards are pooled: exp takes the log-mean-exp of the rewards; tilt takes that of "
        "lambda times the rewards, divided by lambda, which favors a particle's best draws.",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**GLASS, **values} if values.get("preset") == "glass" else values

    @model_validator(mode="after")
    def _ordered(self) -> FKOptions:
        if self.start > self.end:
            raise ValueError(f"start={self.start:g} is after end={self.end:g}; expected start <= end")
        return self

    def schedule(self, steps: int) -> frozenset[int]:
        """Return the steps (counted from 0) that resample in a run of ``steps``."""
        if self.at is not None:
            return frozenset(self.at)
        first, last = round(self.start * steps), round(self.end * steps)
        stride = max(1, round(self.every * steps))
        return frozenset(step for step in range(first, last + 1, stride) if step < steps)
