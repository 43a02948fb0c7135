"""The fields of a run that users, methods and models may set: types, ranges and meanings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steer.errors import SteerError, unknown


@dataclass(frozen=True)
class Setting:
    """The declaration of a field of a run that users, methods and models may set."""

    kind: type | tuple[type, ...]
    low: float | None
    high: float | None
    meaning: str
    modality: str | None = None
    """What it is a setting of, where not of all models: ``"image"``, ``"text"``."""


SETTINGS: dict[str, Setting] = {
    "steps": Setting(int, 1, 10_000, "denoising steps"),
    "timesteps": Setting(
        tuple, None, None, "explicit timesteps, highest first, instead of the scheduler's spacing", "image"
    ),
    "guidance_scale": Setting((int, float), 0, 1000, "classifier-free guidance; off at 1 and below", "image"),
    "true_cfg_scale": Setting(
        (int, float),
        0,
        1000,
        "classifier-free guidance of a model that takes guidance_scale as an input (Flux)",
        "image",
    ),
    "eta": Setting(
        (int, float), 0, 1, "stochasticity of the transitions: 0 is the ODE, 1 the ancestral sampler", "image"
    ),
    "temperature": Setting((int, float), 0, 100, "of the tokens' distributions: 1 as the model has them", "text"),
    "length": Setting(int, 1, 1_000_000, "tokens of a text", "text"),
    "scheduler": Setting(str, None, None, "scheduler by name, instead of the model's own"),
    "particles": Setting(int, 1, 65_536, "particles a prompt"),
    "width": Setting(int, 1, 65_536, "image width in pixels", "image"),
    "height": Setting(int, 1, 65_536, "image height in pixels", "image"),
    "negative": Setting(str, None, None, "negative prompt", "image"),
    "chunk": Setting(int, 1, 65_536, "particles a forward; part of the recipe"),
    "denoiser": Setting(str, None, None, "weights by name: the model's own (base), or those that a method brought"),
}
"""Every field with its type, range and meaning."""


def check_setting(name: str, value: Any) -> None:
    """Raise unless ``value`` is within the declared type and range of the setting ``name``."""
    if name not in SETTINGS:
        raise unknown("setting", name, SETTINGS)
    setting = SETTINGS[name]
    kinds = setting.kind if isinstance(setting.kind, tuple) else (setting.kind,)
    ok = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
    if ok and setting.low is not None and setting.high is not None:
        ok = setting.low <= value <= setting.high  # a NaN fails here too
    if not ok:
        type_name = " or ".join(kind.__name__ for kind in kinds)
        bounds = "" if setting.low is None else f" in {setting.low:g}..{setting.high:g}"
        raise SteerError(f"{name}={value!r}: expected {type_name}{bounds} ({setting.meaning})")


def applies(name: str, modality: str) -> bool:
    """Whether a setting is one of what a model makes, ``"image"`` or ``"text"``."""
    return SETTINGS[name].modality in (None, modality)


def check_modality(name: str, modality: str) -> None:
    """Raise unless a setting is one of what a model makes."""
    if not applies(name, modality):
        raise SteerError(
            f"{name} is a setting of {SETTINGS[name].modality}s, and this model makes {modality}s; leave it out"
        )
