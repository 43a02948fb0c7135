"""The one declaration of ``dmd2``'s options."""

from __future__ import annotations

from steer import Field, Options


class DMD2Options(Options):
    """Options of ``dmd2``."""

    student: str | None = Field(
        None,
        description="Which student: a known name, a folder that `steer train dmd2` wrote, a file with a UNet or a "
        "LoRA, or a hub id; by default the known one that fits the model.",
    )
    steps: int | None = Field(
        None, ge=1, le=64, description="Denoising steps; one of those that the student was made for."
    )
    timesteps: tuple[int, ...] | None = Field(
        None, description="Timesteps of a student that comes as a bare file, highest first; by default the published."
    )
    weights: str | None = Field(
        None, description="Local file, or folder with the file, of a known student's weights; no download then."
    )
