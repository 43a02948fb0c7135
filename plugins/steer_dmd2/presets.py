"""Students by name: published ones, and those that ship with steer. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steer import SteerError
from steer.plugin import Needed, Weights, unknown
from steer_dmd2.student import CARD, WEIGHTS

EMBEDDED = Path(__file__).parent / "weights"
"""Folders of students, as ``steer train dmd2`` writes them."""


@dataclass(frozen=True)
class Variant:
    """A student at one number of steps.

    Attributes:
        source: a file on the hub, or a student's folder.
        timesteps: explicit ones, highest first; ``None`` leaves them to the scheduler's spacing.
        scheduler: the scheduler that it was made for, if it is not the preset's.
        form: see :class:`Preset`, likewise.
    """

    source: Weights | Path
    timesteps: tuple[int, ...] | None = None
    scheduler: str | None = None
    form: str | None = None


Build = tuple[tuple[int, ...], int]
"""Channels of a UNet's blocks, and of the text embeddings."""


@dataclass(frozen=True)
class Preset:
    """A student by name.

    Attributes:
        family: pipeline class of the models that it fits.
        build: channels of those models' UNet blocks, and of their text embeddings; ``None`` if the class is enough.
        variants: by number of steps.
        default_steps: steps if the user sets none.
        scheduler: the scheduler that it was made for.
        form: ``"unet"`` (all weights of the denoiser, of any class) or ``"lora"``.
        prediction: what it predicts; the model's own scheduler must expect the same.
        scale: weight of a LoRA.
        guides: whether the model must take ``guidance_scale`` as an input; ``None`` if it does not matter.
    """

    family: str
    build: Build | None
    variants: Mapping[int, Variant] = field(default_factory=dict)
    default_steps: int = 1
    scheduler: str = "lcm"
    form: str = "unet"
    prediction: str = "epsilon"
    scale: float = 1.0
    guides: bool | None = None


SDXL: Build = ((320, 640, 1280), 2048)
SD2: Build = ((320, 640, 1280, 1280), 1024)
SD15: Build = ((320, 640, 1280, 1280), 768)
SHAPES: Build = ((64, 128, 192), 128)
FOUR = (999, 749, 499, 249)
DMD2 = "tianweiy/DMD2"
LICENSE = "CC BY-NC-SA 4.0 (not for commercial use)"
FLUX = "FLUX.1-dev (not for commercial use)"
HYPER = "ByteDance's of April 2024, with restrictions of use"
STABILITY = "Stability AI community license"


def _dmd2(file: str, size: int) -> Weights:
    return Weights(DMD2, file, size=size, license=LICENSE)


def _turbo(repo: str, size: int) -> dict[int, Variant]:
    weights = Weights(repo, "unet/diffusion_pytorch_model.fp16.safetensors", size=size, license=STABILITY)
    return {steps: Variant(weights) for steps in (1, 2, 3, 4)}


def _lora(repo: str, file: str, size: int, license: str, scheduler: str | None = None) -> Variant:
    return Variant(Weights(repo, file, size=size, license=license), scheduler=scheduler, form="lora")


def _hyper(file: str, size: int, scheduler: str | None = None, license: str = HYPER) -> Variant:
    return _lora("ByteDance/Hyper-SD", f"Hyper-{file}-lora.safetensors", size, license, scheduler)


def _lcm(repo: str, size: int) -> dict[int, Variant]:
    one = _lora(f"latent-consistency/{repo}", "pytorch_lora_weights.safetensors", size, "OpenRAIL++-M")
    return dict.fromkeys(range(2, 9), one)


def _lightning(file: str, size: int) -> Weights:
    return Weights("ByteDance/SDXL-Lightning", f"sdxl_lightning_{file}.safetensors", size=size, license="OpenRAIL++-M")


PRESETS: dict[str, Preset] = {
    "shapes": Preset(
        "StableDiffusionPipeline", SHAPES,
        {1: Variant(EMBEDDED / "shapes-1step"), 4: Variant(EMBEDDED / "shapes-4step")},
        default_steps=4,
    ),
    "sdxl": Preset(
        "StableDiffusionXLPipeline", SDXL,
        {
            1: Variant(_dmd2("dmd2_sdxl_1step_unet_fp16.bin", 5_135_000_000), (399,)),
            4: Variant(_dmd2("dmd2_sdxl_4step_unet_fp16.bin", 5_135_000_000), FOUR),
        },
        default_steps=4,
    ),
    "sdxl-lora": Preset(
        "StableDiffusionXLPipeline", SDXL,
        {4: Variant(_dmd2("dmd2_sdxl_4step_lora_fp16.safetensors", 788_000_000), FOUR)},
        default_steps=4, form="lora",
    ),
    "sdxl-turbo": Preset(
        "StableDiffusionXLPipeline", SDXL, _turbo("stabilityai/sdxl-turbo", 5_135_000_000),
        scheduler="euler-a-trailing",
    ),
    "sd-turbo": Preset(
        "StableDiffusionPipeline", SD2, _turbo("stabilityai/sd-turbo", 1_731_000_000),
        scheduler="euler-trailing",
    ),
    "pixart-alpha-dmd": Preset(
        "PixArtAlphaPipeline", None,
        {1: Variant(
            Weights("PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512", "transformer/diffusion_pytorch_model.safetensors",
                    size=2_440_000_000, license="OpenRAIL++-M"), (400,))},
        scheduler="ddpm",
    ),
    # each by the recipe of its model card: Euler trailing, guidance 0; the one-step model predicts x0
    "sdxl-lightning": Preset(
        "StableDiffusionXLPipeline", SDXL,
        {1: Variant(_lightning("1step_unet_x0", 5_135_000_000), scheduler="euler-trailing-x0"),
         **{n: Variant(_lightning(f"{n}step_unet", 5_135_000_000)) for n in (2, 4, 8)}},
        default_steps=4, scheduler="euler-trailing",
    ),
    "sdxl-lightning-lora": Preset(
        "StableDiffusionXLPipeline", SDXL,
        {n: Variant(_lightning(f"{n}step_lora", 394_000_000)) for n in (2, 4, 8)},
        default_steps=4, scheduler="euler-trailing", form="lora",
    ),
    # DDIM trailing; one step by LCM at 800 (SDXL), or by TCD (SD 1.5)
    "hyper-sdxl": Preset(
        "StableDiffusionXLPipeline", SDXL,
        {1: Variant(Weights("ByteDance/Hyper-SD", "Hyper-SDXL-1step-Unet.safetensors", size=10_270_000_000,
                            license=HYPER), (800,), scheduler="lcm"),
         **{n: _hyper(f"SDXL-{n}steps", 787_000_000) for n in (2, 4, 8)}},
        default_steps=4, scheduler="ddim-trailing",
    ),
    "hyper-sd15": Preset(
        "StableDiffusionPipeline", SD15,
        {1: _hyper("SD15-1step", 269_000_000, "tcd"), **{n: _hyper(f"SD15-{n}steps", 269_000_000) for n in (2, 4, 8)}},
        default_steps=4, scheduler="ddim-trailing",
    ),
    "lcm-sdxl": Preset("StableDiffusionXLPipeline", SDXL, _lcm("lcm-lora-sdxl", 394_000_000), default_steps=4),
    "lcm-sd15": Preset("StableDiffusionPipeline", SD15, _lcm("lcm-lora-sdv1-5", 135_000_000), default_steps=4),
    # FLUX.1-dev's own schedule and guidance as an input (3.5)
    "flux-turbo": Preset(
        "FluxPipeline", None,
        {8: _lora("alimama-creative/FLUX.1-Turbo-Alpha", "diffusion_pytorch_model.safetensors", 694_000_000,
                  FLUX)},
        default_steps=8, scheduler="flow-euler", form="lora", guides=True,
    ),
    "hyper-flux": Preset(
        "FluxPipeline", None, {n: _hyper(f"FLUX.1-dev-{n}steps", 1_390_000_000, license=FLUX) for n in (8, 16)},
        default_steps=8, scheduler="flow-euler", form="lora", scale=0.125, guides=True,
    ),
    "qwen-image-lightning": Preset(
        "QwenImagePipeline", None,
        {n: _lora("lightx2v/Qwen-Image-Lightning", f"Qwen-Image-Lightning-{n}steps-V1.0.safetensors", 1_700_000_000,
                  "Apache-2.0") for n in (4, 8)},
        default_steps=8, scheduler="flow-euler-shift3", form="lora",
    ),
}  # fmt: skip
"""If the user names no student, the first one in this order that fits is used."""


def declared(argument: str | None = None) -> tuple[Needed, ...]:
    """Return a student's files on the hub, given a known name or ``ORG/NAME[@REVISION]``; by default those of DMD2's
    authors.

    Raises:
        SteerError: for a name that is neither in the table nor a hub id.
    """
    if argument is not None and argument not in PRESETS and argument.count("/") == 1:
        repo, _, revision = argument.partition("@")
        return tuple(Weights(repo, file, option="student", revision=revision or None) for file in (CARD, WEIGHTS))
    if argument is not None and argument not in PRESETS:
        raise unknown("student", argument, PRESETS)
    names = ("sdxl", "sdxl-lora") if argument is None else (argument,)
    found = [v.source for name in names for v in PRESETS[name].variants.values() if isinstance(v.source, Weights)]
    return tuple(dict.fromkeys(found))


def build_of(config: Mapping[str, object]) -> Build | None:
    """Return a UNet's build, or ``None`` for a transformer."""
    blocks, text = config.get("block_out_channels"), config.get("cross_attention_dim")
    if not isinstance(blocks, (list, tuple)) or not isinstance(text, int):
        return None
    return tuple(blocks), text


def fitting(family: str, config: Mapping[str, object], prediction: str) -> list[str]:
    """Return the names of the presets that fit a model, in the table's order.

    Args:
        prediction: what its scheduler expects the denoiser to predict, such as ``"epsilon"``.
    """
    kind = (family, prediction)
    build = build_of(config)
    guides = bool(config.get("guidance_embeds"))
    return [
        name
        for name, p in PRESETS.items()
        if (p.family, p.prediction) == kind and p.build in (None, build) and p.guides in (None, guides)
    ]


def check_fits(name: str, family: str, config: Mapping[str, object], prediction: str) -> None:
    """Raise if the preset ``name`` was made for other models."""
    if name in fitting(family, config, prediction):
        return
    preset = PRESETS[name]
    if preset.family != family:
        wanted, got = f"a {preset.family}", f"a {family}"
    elif preset.guides not in (None, bool(config.get("guidance_embeds"))):
        wanted, got = "models that take guidance as an input", "one that does not"
    elif preset.prediction != prediction:
        wanted, got = f"models with {preset.prediction}", f"one with {prediction}"
    else:
        wanted, got = (_described(family, build) for build in (preset.build, build_of(config)))
    raise SteerError(f"student {name!r} is for {wanted}, but the model is {got}; name a student that was made for it")


def _described(family: str, build: Build | None) -> str:
    return f"a {family}" + ("" if build is None else f" with blocks of {build[0]} and text of {build[1]} channels")
