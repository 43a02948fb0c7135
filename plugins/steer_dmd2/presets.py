"""Students by name: published ones, and those that ship with steer. One table; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steer import SteerError
from steer.errors import unknown
from steer.weights import Needed, Weights

EMBEDDED = Path(__file__).parent / "weights"
"""Folders of students, as ``steer train dmd2`` writes them."""


@dataclass(frozen=True)
class Variant:
    """What a student is at one number of steps.

    Attributes:
        source: a file on the hub, or a student's folder.
        timesteps: explicit ones, highest first; ``None`` leaves them to the scheduler's spacing.
    """

    source: Weights | Path
    timesteps: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Preset:
    """A student by name.

    Attributes:
        family: pipeline class of the models that it fits.
        blocks: channels of the blocks of those models' denoisers; ``None`` where the class says enough.
        variants: by number of steps.
        default_steps: where none are asked for.
        scheduler: that it was made for.
        form: ``"unet"`` (all weights of the denoiser, whatever its class) or ``"lora"``.
        summary: one line.
    """

    family: str
    blocks: tuple[int, ...] | None
    variants: Mapping[int, Variant] = field(default_factory=dict)
    default_steps: int = 1
    scheduler: str = "lcm"
    form: str = "unet"
    summary: str = ""


SDXL_BLOCKS, SD_BLOCKS, SHAPES_BLOCKS = (320, 640, 1280), (320, 640, 1280, 1280), (64, 128, 192)
FOUR = (999, 749, 499, 249)
DMD2 = "tianweiy/DMD2"
LICENCE = "CC BY-NC-SA 4.0 (not for commercial use)"
STABILITY = "Stability AI community licence"


def _dmd2(file: str, size: int) -> Weights:
    return Weights(DMD2, file, size=size, licence=LICENCE)


def _turbo(repo: str, size: int) -> dict[int, Variant]:
    weights = Weights(repo, "unet/diffusion_pytorch_model.fp16.safetensors", size=size, licence=STABILITY)
    return {steps: Variant(weights) for steps in (1, 2, 3, 4)}


PRESETS: dict[str, Preset] = {
    "shapes": Preset(
        "StableDiffusionPipeline", SHAPES_BLOCKS,
        {1: Variant(EMBEDDED / "shapes-1step"), 4: Variant(EMBEDDED / "shapes-4step")},
        default_steps=4, summary="students of the embedded model (ship with steer)",
    ),
    "sdxl": Preset(
        "StableDiffusionXLPipeline", SDXL_BLOCKS,
        {
            1: Variant(_dmd2("dmd2_sdxl_1step_unet_fp16.bin", 5_135_000_000), (399,)),
            4: Variant(_dmd2("dmd2_sdxl_4step_unet_fp16.bin", 5_135_000_000), FOUR),
        },
        default_steps=4, summary="the published students of SDXL",
    ),
    "sdxl-lora": Preset(
        "StableDiffusionXLPipeline", SDXL_BLOCKS,
        {4: Variant(_dmd2("dmd2_sdxl_4step_lora_fp16.safetensors", 788_000_000), FOUR)},
        default_steps=4, form="lora", summary="the published four-step student of SDXL as a LoRA; fits fine-tunes",
    ),
    "sdxl-turbo": Preset(
        "StableDiffusionXLPipeline", SDXL_BLOCKS, _turbo("stabilityai/sdxl-turbo", 5_135_000_000),
        scheduler="euler-a-trailing", summary="SDXL Turbo's UNet on an SDXL pipeline; 512x512",
    ),
    "sd-turbo": Preset(
        "StableDiffusionPipeline", SD_BLOCKS, _turbo("stabilityai/sd-turbo", 1_731_000_000),
        scheduler="euler-trailing", summary="SD Turbo's UNet on a Stable Diffusion 2.1 pipeline",
    ),
    "pixart-alpha-dmd": Preset(
        "PixArtAlphaPipeline", None,
        {1: Variant(
            Weights("PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512", "transformer/diffusion_pytorch_model.safetensors",
                    size=2_440_000_000, licence="OpenRAIL++-M"), (400,))},
        scheduler="ddpm", summary="the one-step student of PixArt-alpha at 512x512",
    ),
}  # fmt: skip
"""In the order in which the first that fits is taken where no student is named."""


def declared(argument: str | None = None) -> tuple[Needed, ...]:
    """Return a preset's files on the hub; those of all presets of DMD2's authors without an argument.

    Raises:
        SteerError: for a name that is not in the table.
    """
    if argument is not None and argument not in PRESETS:
        raise unknown("student", argument, PRESETS)
    names = ("sdxl", "sdxl-lora") if argument is None else (argument,)
    found = [v.source for name in names for v in PRESETS[name].variants.values() if isinstance(v.source, Weights)]
    return tuple(dict.fromkeys(found))


def blocks_of(config: Mapping[str, object]) -> tuple[int, ...]:
    """Return the channels of a denoiser's blocks; none for a transformer."""
    value = config.get("block_out_channels")
    return tuple(value) if isinstance(value, (list, tuple)) else ()


def fitting(family: str, config: Mapping[str, object]) -> list[str]:
    """Return the names of the presets that fit a model, in the table's order."""
    return [
        name for name, preset in PRESETS.items()
        if preset.family == family and preset.blocks in (None, blocks_of(config))
    ]  # fmt: skip


def check_fits(name: str, family: str, config: Mapping[str, object]) -> None:
    """Raise if the preset ``name`` was made for other models."""
    if name in fitting(family, config):
        return
    preset = PRESETS[name]
    wanted = f"{preset.family} with blocks of {preset.blocks} channels" if preset.blocks else preset.family
    got = f"{family} with blocks of {blocks_of(config)} channels" if blocks_of(config) else family
    raise SteerError(f"student {name!r} is for {wanted}, the model is a {got}; name a model that it was made for")
