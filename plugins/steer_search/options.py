"""The declarations of the searches' options."""

from __future__ import annotations

from steer import Field, Options

DEFAULT_N = 16


class Budgeted(Options):
    """What every search takes."""

    nfe: int | None = Field(
        None, ge=1, description="Denoiser evaluations a prompt that are not exceeded, guidance counted as two."
    )
    seconds: float | None = Field(
        None, gt=0, description="Seconds a prompt, on average over the prompts that are drawn together."
    )
    target: float | None = Field(None, description="A prompt is done as soon as a sample has this reward.")
    keep: int | None = Field(
        None, ge=1, description="Samples a prompt that are kept as particles; 1 where the best is chosen, else all."
    )


class BestOfNOptions(Budgeted):
    """Options of ``best-of-n``."""

    n: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description=f"Samples a prompt; without it as many as a budget buys, else --particles, else {DEFAULT_N}.",
    )


class RandomOptions(Budgeted):
    """Options of ``random``."""

    n: int | None = Field(None, ge=1, le=65_536, description="Samples a prompt at most.")


class ZeroOrderOptions(Budgeted):
    """Options of ``zero-order``."""

    rounds: int = Field(10, ge=0, le=65_536, description="Rounds of neighbours, after the round of seeds.")
    radius: float = Field(
        0.4, gt=0, le=1, description="Share of a neighbour's noise that is new: sqrt(1-radius^2)*best + radius*new."
    )
    adapt: bool = Field(True, description="Widen the radius after a round that found a better noise, else narrow it.")
