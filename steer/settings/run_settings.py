"""The settings of a run, each declared once.

Options of the command line, keys of run files and of prompt rows, settings in a comparison's specs, the checks of
recipes and the command on a render's page derive from :class:`RunSettings`: a new setting is one new field there.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pydantic

from steer.errors import SteerError, unknown

PICTURES = ("image", "video")
"""Modalities of the models that denoise pictures."""


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        meaning: its description in help and messages, in lower case and without a period.
        low: least value of a number.
        high: largest value of a number.
        modalities: of the models that have it; empty for all models.
        flags: options of the command line, a short one first; empty if only methods and Python code set it.
        metavar: placeholder of the value in help, if its type says too little.
        group: the group of options that help lists it in.
        rows: keys by which a row of a prompt file sets it for its prompt alone; the last one present counts.
        off: the value without effect.
        kind: types of its value, from the annotation.
    """

    meaning: str
    low: float | None = None
    high: float | None = None
    modalities: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    group: str = "Sampling"
    rows: tuple[str, ...] = ()
    off: Any = None
    kind: tuple[type, ...] = ()

    @property
    def key(self) -> str:
        """Its name on the command line and in run files, as in ``true_cfg``; empty if it has none."""
        return self.flags[-1].lstrip("-").replace("-", "_") if self.flags else ""


class RunSettings(pydantic.BaseModel):
    """The settings that the user chose; ``None`` leaves a setting to the methods and the model.

    Raises:
        SteerError: for an unknown name, a value of another type or one out of range.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    particles: Annotated[
        int | None, Setting("particles per prompt", 1, 65_536, flags=("-n", "--particles"), rows=("particles",))
    ] = None
    slot: Annotated[
        int | None,
        Setting(
            "number of the first particle: with -n 1, one particle of a larger population alone",
            0,
            65_535,
            flags=("--slot",),
            metavar="K",
            rows=("slot",),
            off=0,
        ),
    ] = None
    steps: Annotated[int | None, Setting("denoising steps", 1, 10_000, flags=("--steps",), rows=("steps",))] = None
    timesteps: Annotated[
        tuple[Any, ...] | None,
        Setting("explicit timesteps, highest first, instead of the scheduler's spacing", modalities=PICTURES),
    ] = None
    guidance_scale: Annotated[
        int | float | None,
        Setting(
            "classifier-free guidance scale; off at 1 and below",
            0,
            1000,
            modalities=PICTURES,
            flags=("--guidance",),
            metavar="SCALE",
            rows=("guidance", "guidance_scale", "cfg_scale"),
        ),
    ] = None
    true_cfg_scale: Annotated[
        int | float | None,
        Setting(
            "classifier-free guidance scale of a model that takes guidance as an input (Flux)",
            0,
            1000,
            modalities=PICTURES,
            flags=("--true-cfg",),
            metavar="SCALE",
            rows=("true_cfg", "true_cfg_scale"),
            off=1,
        ),
    ] = None
    eta: Annotated[
        int | float | None,
        Setting(
            "stochasticity of the transitions: 0 is the ODE, 1 the ancestral sampler",
            0,
            1,
            modalities=PICTURES,
            flags=("--eta",),
            rows=("eta",),
        ),
    ] = None
    transitions: Annotated[
        int | None,
        Setting(
            "stochastic transitions, each an ODE over its share of the steps (GLASS); methods act between them",
            1,
            10_000,
            modalities=PICTURES,
            flags=("--transitions",),
            rows=("transitions",),
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        Setting(
            "scheduler instead of the model's own: ddim, ddpm, euler, euler-a, dpm++, unipc, …",
            flags=("--scheduler",),
            metavar="NAME",
            rows=("scheduler",),
        ),
    ] = None
    negative: Annotated[
        str | None,
        Setting(
            "negative prompt",
            modalities=PICTURES,
            flags=("--negative",),
            metavar="TEXT",
            rows=("negative_prompt", "negative"),
            off="",
        ),
    ] = None
    prompt_syntax: Annotated[
        str | None,
        Setting(
            "how prompts are read: none, or a1111 for (word:1.3), [word], BREAK and texts of any length",
            modalities=PICTURES,
            flags=("--prompt-syntax",),
            metavar="NAME",
            rows=("prompt_syntax",),
            off="none",
        ),
    ] = None
    length: Annotated[
        int | None,
        Setting(
            "tokens per text; by default the model's maximum",
            1,
            1_000_000,
            modalities=("text",),
            flags=("--length",),
            metavar="TOKENS",
            rows=("length",),
        ),
    ] = None
    temperature: Annotated[
        int | float | None,
        Setting(
            "temperature of the token distributions; 1 keeps the model's own",
            0,
            100,
            modalities=("text",),
            flags=("--temperature",),
            rows=("temperature",),
        ),
    ] = None
    width: Annotated[int | None, Setting("width in pixels", 1, 65_536, modalities=PICTURES, rows=("width",))] = None
    height: Annotated[int | None, Setting("height in pixels", 1, 65_536, modalities=PICTURES, rows=("height",))] = None
    chunk: Annotated[
        int | None,
        Setting("particles per forward pass; part of the recipe", 1, 65_536, flags=("--chunk",), group="Model"),
    ] = None
    denoiser: Annotated[str | None, Setting("weights by name: the model's own (base), or those of a method")] = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _check(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, value in values.items():
            if name not in SETTINGS or value is not None:
                check_setting(name, value)
        return values

    @classmethod
    def typed(cls, values: Mapping[str, Any]) -> RunSettings:
        """Return the settings among the values of options or of a run file, by their keys there.

        Raises:
            SteerError: for a value that a setting does not take.
        """
        given = {name: values.get(setting.key) for name, setting in SETTINGS.items() if setting.key}
        if values.get(SIZE.key) is not None:
            given["width"], given["height"] = parse_size(values[SIZE.key])
        return cls(**given)

    def given(self) -> dict[str, Any]:
        """Return the settings that are not ``None``, by the names of the fields."""
        return {name: value for name, value in self if value is not None}

    def having(self, **changes: Any) -> RunSettings:
        """Return these settings with some changed."""
        return type(self)(**{**dict(self), **changes})


def _kinds(annotation: Any) -> tuple[type, ...]:
    """Return the types of a field's values, ``None`` left out."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if union else (annotation,)
    return tuple(typing.get_origin(part) or part for part in parts if part is not type(None))


SETTINGS: dict[str, Setting] = {
    name: replace(next(part for part in field.metadata if isinstance(part, Setting)), kind=_kinds(field.annotation))
    for name, field in RunSettings.model_fields.items()
}
"""Every setting's declaration by its name."""

SIZE = Setting("size of images or videos in pixels", modalities=PICTURES, flags=("--size",), metavar="WxH", kind=(str,))
"""The option for width and height: ``512x768``."""

TYPED: dict[str, Setting] = {setting.key: setting for setting in (*SETTINGS.values(), SIZE) if setting.key}
"""The settings that users type, by their keys in a run file."""


def canonical(name: str) -> str:
    """Return the setting that a short name or synonym (``guidance``) means; another name is returned as it is."""
    return next((field for field, setting in SETTINGS.items() if name in (setting.key, *setting.rows)), name)


def as_typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the keys of run files, as :meth:`RunSettings.typed` reads them; those unset are left out."""
    found = {
        setting.key: settings[name]
        for name, setting in SETTINGS.items()
        if setting.key and settings.get(name) is not None
    }
    if settings.get("width") is not None and settings.get("height") is not None:
        found[SIZE.key] = f"{settings['width']}x{settings['height']}"
    return found


def renewed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a run file or a recipe by the keys of today: ``vae`` once was what ``vae_memory`` is."""
    found = dict(values)
    if isinstance(found.get("vae"), list) or found.get("vae") in ("slicing", "tiling"):
        found["vae_memory"] = found.pop("vae")
    return found


def parse_size(size: Any, where: str = "") -> tuple[int, int]:
    """Return width and height in pixels of ``"512x768"`` or ``[512, 768]``.

    Raises:
        SteerError: for anything else.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*", size.lower())
        if match:
            return int(match[1]), int(match[2])
    if isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size):
        return size[0], size[1]
    prefix = f"{where}: " if where else ""
    raise SteerError(f"{prefix}size {repr(size)[:60]}: expected WIDTHxHEIGHT in pixels, such as 512x512")


def check_setting(name: str, value: Any) -> None:
    """Raise unless ``value`` is within the declared type and range of the setting ``name``."""
    if name not in SETTINGS:
        raise unknown("setting", name, SETTINGS)
    setting = SETTINGS[name]
    ok = isinstance(value, setting.kind) and not isinstance(value, bool)
    if ok and setting.low is not None and setting.high is not None:
        ok = setting.low <= value <= setting.high  # a NaN fails here too
    if not ok:
        type_name = " or ".join(kind.__name__ for kind in setting.kind)
        bounds = "" if setting.low is None else f" in {setting.low:g}..{setting.high:g}"
        raise SteerError(f"{name}={repr(value)[:60]}: expected {type_name}{bounds} ({setting.meaning})")


def applies(name: str, modality: str) -> bool:
    """Whether models that make a modality (``"image"``, ``"video"``, ``"text"``) have a setting."""
    modalities = SETTINGS[name].modalities
    return not modalities or modality in modalities


def check_modality(name: str, modality: str) -> None:
    """Raise if models of a modality do not have a setting."""
    if not applies(name, modality):
        raise SteerError(
            f"{name} is a setting of {' and '.join(f'{made}s' for made in SETTINGS[name].modalities)}, and this model "
            f"makes {modality}s; leave it out"
        )
