"""From a model's name to a backbone: registered names, local folders, hub ids and pipelines in memory."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError, message_of
from steer.models.backbone import Backbone
from steer.models.device import pick_device, pick_dtype
from steer.models.downloads import hub, weights
from steer.models.downloads.source import Source
from steer.models.options import PREVIEWS, ModelOptions, Preview, apply
from steer.registry.declarations import Repository
from steer.registry.plugins import Plugins
from steer.settings.run_settings import check_setting
from steer.settings.text_files import read_text

log = logging.getLogger(__name__)

DEFAULTS_FILE = "steer.json"
"""In a model's folder: its own defaults of a run's settings, for example ``{"steps": 30}``."""

KNOWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "stabilityai/sd-turbo": {"steps": 1, "guidance_scale": 1.0},
    "stabilityai/sdxl-turbo": {"steps": 1, "guidance_scale": 1.0},
    "stabilityai/stable-diffusion-3.5-large": {"steps": 28, "guidance_scale": 3.5},
    "stabilityai/stable-diffusion-3.5-large-turbo": {"steps": 4, "guidance_scale": 1.0},
    "black-forest-labs/FLUX.1-schnell": {"steps": 4, "guidance_scale": 0.0},
    "PixArt-alpha/PixArt-LCM-XL-2-1024-MS": {"steps": 4, "guidance_scale": 0.0},
    # the card says 9, for a pipeline whose last step began at sigma 0 and had no effect
    "Tongyi-MAI/Z-Image-Turbo": {"steps": 8, "guidance_scale": 0.0},
}
"""Settings of distilled checkpoints, by hub id, from their model cards; the family's own would spoil the image."""


@dataclass(frozen=True)
class Model:
    """A loaded model: name and options for the recipe, backbone, its own defaults of a run's settings, preview."""

    name: str
    backbone: Backbone
    defaults: dict[str, Any]
    options: ModelOptions = field(default_factory=ModelOptions)
    preview: Preview | None = None


def load_model(
    model: Any,
    plugins: Plugins,
    *,
    device: str | None = None,
    dtype: str | None = None,
    options: ModelOptions | None = None,
) -> Model:
    """Load a model.

    Args:
        model: a name that a plugin registered (``"shapes"``), a local folder in diffusers format, a hub id, or a
            diffusers pipeline in memory (not changed, and not moved unless ``device`` is given).
        plugins: the plugins to look names and backbones up in.
        device: ``"cpu"``, ``"cuda"``, …; by default CUDA if there is one.
        dtype: ``"fp32"``, ``"bf16"`` or ``"fp16"``; by default the family's half precision on CUDA, else fp32.
        options: LoRAs, memory savings, compilation, preview decoder.

    Raises:
        SteerError: for a model that does not exist, cannot be fetched, or belongs to no supported family.
    """
    chosen = options if options is not None else ModelOptions()
    if not isinstance(model, (str, Path)):
        return _from_pipeline(model, plugins, device, chosen)
    name = str(model)
    kind, colon, argument = name.partition(":")
    if colon and kind in plugins.registry.loaders:
        return _from_loader(kind, argument, plugins, device, dtype, chosen)
    alias = plugins.registry.models.get(name)
    source = Source(str(alias.load()()) if alias else name)
    config = _pipeline_config(source, name, plugins)
    class_name = str(config.get("_class_name", ""))
    entry = _backbone_entry(class_name, plugins)

    import diffusers

    where = pick_device(device)
    family: type[Backbone] = entry.load()
    keywords: dict[str, Any] = {"torch_dtype": family.precision(pick_dtype(dtype, where, family.half))}
    if source.folder is None:
        keywords["local_files_only"] = not hub.reachable()
    if "safety_checker" in config:  # never called here, and 1.2 GB large
        keywords.update(safety_checker=None, requires_safety_checker=False)
    try:
        pipe = getattr(diffusers, class_name).from_pretrained(source.place, **keywords)
    except (
        Exception
    ) as error:  # missing parts, damaged weights, unknown classes: many kinds of error, all caused by the folder
        log.debug("loading %s failed", source.name, exc_info=True)
        raise SteerError(
            f"model {name!r} cannot be loaded ({type(error).__name__}: {message_of(error)}); a file of it is missing "
            "or damaged: fetch or copy it again"
        ) from error
    apply(pipe, chosen, where)
    backbone = _prepare(family(pipe))  # type: ignore[call-arg]
    defaults = {**KNOWN_DEFAULTS.get(name, {}), **_defaults(source.folder)}
    return Model(name, backbone, defaults, chosen, _preview(backbone, chosen))


def check_cached(name: str, plugins: Plugins) -> None:
    """Raise for a hub model that is not in the cache; a dry run must not fetch it.

    Raises:
        SteerError: with the command that fetches it.
    """
    source = Source(name)
    if name in plugins.registry.models or not source.like_an_id() or source.folder is not None:
        return
    if weights.cached(Repository(name)) is None:
        raise SteerError(
            f"model {name!r} is not in the hub's cache, and a dry run downloads nothing; fetch it with `steer download "
            f"{name}` first"
        )


def _from_loader(
    kind: str, argument: str, plugins: Plugins, device: str | None, dtype: str | None, options: ModelOptions
) -> Model:
    name = f"{kind}:{argument}"
    if options != ModelOptions():
        raise SteerError(
            f"model {name!r} is not a diffusers pipeline: LoRAs, offload, previews and the like do not apply"
        )
    where = pick_device(device)
    backbone: Backbone = plugins.registry.loaders[kind].load()(argument, where, pick_dtype(dtype, where))
    return Model(name, backbone, {}, options)


def _from_pipeline(pipe: Any, plugins: Plugins, device: str | None, options: ModelOptions) -> Model:
    entry = _backbone_entry(type(pipe).__name__, plugins)
    apply(pipe, options, pipe.device if device is None else pick_device(device))
    name = getattr(pipe, "name_or_path", None) or getattr(pipe, "_name_or_path", None)
    backbone = _prepare(entry.load()(pipe))
    return Model(str(name or type(pipe).__name__), backbone, {}, options, _preview(backbone, options))


def _preview(backbone: Backbone, options: ModelOptions) -> Preview | None:
    if options.preview is None:
        return None
    dtype = next(backbone.denoisers["base"].parameters()).dtype
    if options.preview in PREVIEWS and options.preview != backbone.preview:
        # families share numbers of channels, so a wrong one would silently decode to nonsense
        fitting = f"use {backbone.preview}" if backbone.preview else "it has none; leave --preview out"
        raise SteerError(
            f"preview decoder {options.preview!r} is not for the latents of {type(backbone).__name__}: {fitting}"
        )
    preview = Preview(options.preview, backbone.device, dtype)
    preview.check(backbone.latent_shape(None, None)[0])
    return preview


def _prepare(backbone: Backbone) -> Backbone:
    """Put every part into inference mode; dropout in a text encoder would make a run unrepeatable."""
    for part in backbone.pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return backbone


def _backbone_entry(class_name: str, plugins: Plugins) -> Any:
    known = plugins.registry.backbones
    if class_name not in known:
        raise SteerError(
            f"pipelines of class {class_name or '(none)'!r} are not supported; supported are {', '.join(sorted(known))}"
        )
    return known[class_name]


def _pipeline_config(source: Source, name: str, plugins: Plugins) -> dict[str, Any]:
    """Read ``model_index.json`` before any weights, so that a mistake costs no download."""
    folder = source.folder
    if folder is not None:
        index = folder / "model_index.json"
        if not index.is_file():
            raise SteerError(f"model folder {name!r} has no model_index.json; expected a folder in diffusers format")
        try:
            config = json.loads(index.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise SteerError(f"model folder {name!r}: model_index.json cannot be read: {message_of(error)}") from None
        if not isinstance(config, dict):
            raise SteerError(f"model folder {name!r}: model_index.json holds no object; expected a diffusers pipeline")
        return dict(config)
    if not source.like_an_id():
        from steer.errors import nearest

        names = sorted(plugins.registry.models)
        raise SteerError(
            f"unknown model {name[:100]!r}{nearest(name, names)}; expected a known name "
            f"({', '.join(names) or 'none'}), a local folder in diffusers format, or a hub id like org/name"
        )
    from diffusers import DiffusionPipeline

    try:
        return dict(DiffusionPipeline.load_config(source.name, local_files_only=not hub.reachable()))
    except Exception as error:  # the hub client raises many kinds of error; all mean that it could not be fetched
        log.debug("loading %s failed", source.name, exc_info=True)
        if not hub.reachable():
            raise SteerError(
                f"model {name!r} is not a local folder or in the hub's cache, and the hub cannot be reached "
                "(offline); go online once to fetch it, or give a local folder in diffusers format"
            ) from error
        raise SteerError(
            f"model {name!r} is not a local folder and could not be fetched from the hub ({type(error).__name__}); "
            "check the id, log in if it is gated, or give a local folder in diffusers format"
        ) from error


def _defaults(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / DEFAULTS_FILE).is_file():
        return {}
    file = folder / DEFAULTS_FILE
    try:
        values = json.loads(read_text(file, "model's defaults"))
    except (ValueError, RecursionError) as error:
        raise SteerError(f"{file} cannot be read: {message_of(error)}") from None
    if not isinstance(values, dict):
        raise SteerError(f"{file} holds a {type(values).__name__}; expected an object of settings")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in values.items():
        check_setting(key, value)
    return values
