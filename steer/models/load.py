"""From a model's name to a backbone: registered names, local folders, hub ids and pipelines in memory."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError, message_of, package_missing
from steer.models import loras
from steer.models.autoencoder import load_vae
from steer.models.backbone import Backbone
from steer.models.defaults import defaults_of, usual_inputs
from steer.models.device import dtype_of, out_of_memory, pick_device, pick_dtype
from steer.models.downloads import hub, lora_files, weights
from steer.models.downloads.checkpoints import sha256_of
from steer.models.downloads.source import Source
from steer.models.find import OFFLINE, Found, any_pipeline, find, loader_of, needed_parts
from steer.models.fingerprints import fingerprint
from steer.models.folders import check_fit, check_folder, variant_of
from steer.models.options import (
    PREVIEWS,
    ModelOptions,
    Preview,
    apply,
    files_of,
    lay_channels_last,
    modules_of,
    offloaded,
    prepare,
)
from steer.models.parts import folder_of, load_part
from steer.models.quantize import check
from steer.models.room import bytes_of, fits, room_of
from steer.models.single_file import part_dtype
from steer.registry.declarations import Repository
from steer.registry.plugins import Plugins

log = logging.getLogger(__name__)

VARIANTS = {torch.float16: "fp16", torch.bfloat16: "bf16"}
"""Variants of half the size that are fetched for a precision, if the repository has them."""


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        name: for the recipe.
        backbone: the model's family.
        defaults: its own defaults of a run's settings.
        options: for the recipe.
        preview: the preview decoder.
        files: the SHA-256 of each local file of weights that the name and the options name.
        weights: a digest of each part as it was read, of the preview decoder, and of each other LoRA, by name.
    """

    name: str
    backbone: Backbone
    defaults: dict[str, Any]
    options: ModelOptions = field(default_factory=ModelOptions)
    preview: Preview | None = None
    files: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)


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
        model: a name that a plugin registered (``"shapes"``), a local folder in diffusers format, a file with a whole
            model or its denoiser, a hub id, or a diffusers pipeline in memory (not moved unless ``device`` is
            given, and changed by ``options`` alone).
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
    loader = loader_of(name, plugins)
    if loader is not None:
        return _from_loader(*loader, plugins, device, dtype, chosen)
    if chosen.quantize is not None:
        check(chosen.quantize)
    found = find(name, plugins, chosen)
    for path, *_ in chosen.loras:  # a wrong one is told before the model is fetched
        lora_files.locate(path)
    for part in chosen.parts:
        folder_of(part)
    where = pick_device(device)
    precision = pick_dtype(dtype, where, found.family.half)
    with found.as_base():
        folder = _folder(found, chosen, precision)
    try:
        pipe = _read(found, folder, chosen, found.family.precision(precision))
        parts = _fingerprints(pipe)
        crowded = _place(pipe, found.family, chosen, where)
    except SteerError:
        raise
    except Exception as error:  # damaged weights, foreign classes, missing packages: a dozen kinds
        log.debug("loading %s failed", name, exc_info=True)
        raise _unloadable(name, error, found.config) from error
    backbone = _prepare(found.family(pipe))  # type: ignore[call-arg]
    if crowded is not None:
        backbone.reside(where, crowded=crowded)
    _receive(backbone, chosen)
    defaults = defaults_of(found.shown, found.place.folder)
    backbone.usual_inputs = usual_inputs(found.place.folder, backbone.call_inputs)
    return _model(name, backbone, defaults, chosen, files_of(name, chosen), parts, folder)


def _folder(found: Found, options: ModelOptions, precision: torch.dtype) -> Path:
    """Return the folder with a model's configurations and weights, fetched now if it must be, after a check."""
    given = {name for name, _ in options.parts}
    elsewhere = {*found.held(), *(("vae",) if options.vae else ()), *given}
    folder = found.place.folder or _fetched(found.place, found.shown, options, precision, elsewhere)
    taken = set().union(*found.pipeline_class._get_signature_keys(found.pipeline_class))
    if options.pipeline is not None:  # another class need not take all parts
        taken |= found.config.keys()
    config = {part: entry for part, entry in found.config.items() if part not in given}
    needed = {part: classes for part, classes in found.needed.items() if part not in given}
    config["_class_name"] = found.class_name
    check_folder(folder, found.shown, config, needed, taken, elsewhere, fit=found.family.predicts)
    return folder


def _read(found: Found, folder: Path, options: ModelOptions, precision: Any) -> Any:
    """Return the pipeline with its weights read, on the CPU."""
    _, options_taken = found.pipeline_class._get_signature_keys(found.pipeline_class)
    keywords: dict[str, Any] = {
        "torch_dtype": precision,
        "variant": variant_of(folder, found.shown, found.config, options.variant),
    }
    if "safety_checker" in found.config:  # never called here; not worth 1.2 GB
        keywords["safety_checker"] = None
        if "requires_safety_checker" in options_taken:
            keywords["requires_safety_checker"] = False
    given = {part[0]: load_part(part, found.pipeline_class, part_dtype(precision, part[0])) for part in options.parts}
    if options.vae is not None:
        dtype = part_dtype(precision, "vae")
        given["vae"] = load_vae(options.vae, found.config["vae"][1], folder / "vae", dtype)
    if found.checkpoint is None:
        return found.pipeline_class.from_pretrained(str(folder), **given, **keywords)
    return found.checkpoint.pipeline(found.pipeline_class, folder, found.held() - given.keys(), given, keywords)


def _place(pipe: Any, family: type[Backbone], options: ModelOptions, device: torch.device) -> bool | None:
    """Apply the options and move the parts to the device.

    Returns:
        Whether they must take turns there for want of room; ``None`` if steer does not move them: on the CPU, with
        offload, and in pipelines that only diffusers calls.
    """
    ours = device.type == "cuda" and options.offload == "none"
    crowded = ours and not fits(bytes_of(modules_of(pipe).values()), room_of(device))
    if not family.predicts:  # nobody but diffusers can bring parts to the device within a call
        options = replace(options, offload="model") if crowded else options
        ours = crowded = False
    apply(pipe, options, device, move=not crowded)
    if crowded and options.quantize is not None and fits(bytes_of(modules_of(pipe).values()), room_of(device)):
        crowded = False
        pipe.to(device)
    return crowded if ours else None


def _fetched(
    source: Source, name: str, options: ModelOptions, precision: torch.dtype, without: Collection[str]
) -> Path:
    """Return the folder of the hub's cache with a model, fetched now if it is not there.

    Args:
        without: parts whose weights come from elsewhere.
    """
    repository = Repository(source.name, revision=options.revision)
    found = weights.cached(repository, without)
    if found is not None and (options.variant is None or weights.has_variant(found, options.variant)):
        return found
    if not hub.reachable():
        what = "" if found is None else f"'s variant {options.variant!r}"
        raise SteerError(f"model {name!r}{what} is not in the hub's cache, and {OFFLINE}")
    return weights.fetch(repository, variant=options.variant or VARIANTS.get(precision), without=without)


def _unloadable(name: str, error: Exception, config: Mapping[str, Any]) -> SteerError:
    """Return the error for a whole folder that did not load."""
    said = f"{type(error).__name__}: {message_of(error)}"
    if out_of_memory(error):
        return SteerError(
            f"model {name!r} does not fit into memory while it is loaded ({message_of(error)}); use --dtype bf16 or "
            "fp16, --offload model, or a smaller model"
        )
    package = package_missing(error)
    if package is not None:
        return SteerError(f"model {name!r} needs the package {package}: pip install {package} ({said})")
    if isinstance(error, ImportError):
        return SteerError(f"model {name!r} cannot be loaded, a package is broken or too old: {said}")
    saved = config.get("_diffusers_version")
    hint = f"; it was saved by diffusers {saved}" if saved else ""
    return SteerError(f"model {name!r} cannot be loaded ({said}){hint}: fetch or copy it again, or update diffusers")


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
    return Model(name, backbone, {}, options, weights={"model": fingerprint(backbone.denoisers["base"])})


def _from_pipeline(pipe: Any, plugins: Plugins, device: str | None, options: ModelOptions) -> Model:
    if options.pipeline not in (None, type(pipe).__name__):
        raise SteerError(
            f"the pipeline in memory is a {type(pipe).__name__}, not a {options.pipeline}; drop the option"
        )
    known = None if options.pipeline else plugins.registry.backbones.get(type(pipe).__name__)
    family: type[Backbone] = any_pipeline(type(pipe)) if known is None else known.load()
    name = str(getattr(pipe, "name_or_path", None) or getattr(pipe, "_name_or_path", None) or type(pipe).__name__)
    _check_pipeline(pipe, name, family)
    if options.base is not None or options.vae is not None or options.parts:
        raise SteerError("base, vae and parts are for models that steer loads; set pipe.vae of a pipeline in memory")
    parts = _fingerprints(pipe)
    apply(pipe, options, pipe.device if device is None else pick_device(device), move=device is not None)
    backbone = family(pipe)  # type: ignore[call-arg]
    backbone.lend()
    _receive(backbone, options)
    return _model(name, backbone, {}, options, files_of("", options), parts)


def _fingerprints(pipe: Any) -> dict[str, str]:
    """Return a pipeline's parts by name, before LoRAs and quantization, whose last bits depend on the device."""
    return {name: fingerprint(part) for name, part in modules_of(pipe).items()}


def _model(
    name: str,
    backbone: Backbone,
    defaults: dict[str, Any],
    options: ModelOptions,
    files: dict[str, str],
    parts: dict[str, str],
    folder: Path | None = None,
) -> Model:
    preview = _preview(backbone, options, folder)
    places = {lora: loras.file_of(lora_files.locate(lora)) for lora, *_ in options.loras if lora not in files}
    weights = {
        **parts,
        **({} if preview is None else {"preview": fingerprint(preview.model)}),
        **{f"lora {lora}": sha256_of(file) for lora, file in places.items() if file.is_file()},
    }
    return Model(name, backbone, defaults, options, preview, files, weights)


def _receive(backbone: Backbone, options: ModelOptions) -> None:
    """Have denoisers that methods bring treated as the model's own was."""

    def ready(module: torch.nn.Module) -> None:
        prepare(module, options, backbone.device)
        backbone.ready(module)

    backbone.denoisers.ready = ready
    backbone.denoisers.loras = tuple(path for path, *_ in options.loras)


def _check_pipeline(pipe: Any, name: str, family: type[Backbone]) -> None:
    """Raise for a pipeline in memory with a part missing, foreign or elsewhere."""
    parts = pipe.components
    for part in needed_parts(type(pipe), family):
        if parts.get(part) is None:
            raise SteerError(f"pipeline {name!r} has no {part}, which steer calls; load it with all its parts")
    configs = {part: getattr(module, "config", None) for part, module in parts.items()}
    if family.predicts:
        check_fit(name, {part: _plain(config) for part, config in configs.items()})
    modules = modules_of(pipe)
    places = {part: module.device for part, module in modules.items() if not offloaded(module)}
    if len(set(places.values())) > 1 and len(places) == len(modules):
        listing = ", ".join(f"{part} on {place}" for part, place in places.items())
        raise SteerError(f"pipeline {name!r} has its parts on several devices ({listing}); move it by pipe.to(DEVICE)")


def _plain(config: Any) -> Mapping[str, Any]:
    return config if isinstance(config, Mapping) else getattr(config, "__dict__", {})


def _preview(backbone: Backbone, options: ModelOptions, folder: Path | None) -> Preview | None:
    if options.preview is None:
        return None
    if not backbone.predicts:
        raise SteerError(
            f"calls of {type(backbone.pipe).__name__} are decoded by the pipeline itself; leave --preview out"
        )
    dtype = dtype_of(backbone.denoisers["base"])
    if options.preview in PREVIEWS and options.preview != backbone.preview:
        # families share numbers of channels, so a wrong one would silently decode to nonsense
        fitting = f"use {backbone.preview}" if backbone.preview else "it has none; leave --preview out"
        raise SteerError(
            f"preview decoder {options.preview!r} is not for the latents of {type(backbone).__name__}: {fitting}"
        )
    preview = Preview(options.preview, backbone.device, dtype, folder)
    if options.channels_last:
        lay_channels_last(preview.model)
    preview.check(backbone.latent_shape(None, None)[0])
    return preview


def _prepare(backbone: Backbone) -> Backbone:
    """Put every part into inference mode; dropout in a text encoder would make a run unrepeatable."""
    for part in modules_of(backbone.pipe).values():
        part.eval().requires_grad_(False)
    return backbone
