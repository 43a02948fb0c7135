"""The one declaration of ``dmd2``'s options."""

from steer import Field, Options


class DMD2Options(Options):
    """Options of ``dmd2``."""

    student: str | None = Field(
        None,
        description="Student: a known name, a folder written by `steer train dmd2`, a file with a UNet or a LoRA, or a "
        "hub id; by default the known student that fits the model.",
    )
    steps: int | None = Field(
        None, ge=1, le=64, description="Denoising steps; must be a number that the student was made for."
    )
    timesteps: tuple[int, ...] | None = Field(
        None, description="Timesteps of a student in a bare file, highest first; by default the published ones."
    )
    weights: str | None = Field(
        None,
        description="Local file with a known student's weights, or the folder that holds it; prevents the download.",
    )
