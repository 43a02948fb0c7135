"""From a model's name to a backbone: registered names, local folders, hub ids and pipelines in memory."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError, message_of, nearest, package_missing
from steer.models import loras
from steer.models.autoencoder import load_vae
from steer.models.backbone import Backbone
from steer.models.device import dtype_of, out_of_memory, pick_device, pick_dtype
from steer.models.downloads import hub, lora_files, weights
from steer.models.downloads.checkpoints import sha256_of
from steer.models.downloads.fetching import NoSuchFile
from steer.models.downloads.source import Source
from steer.models.fingerprints import fingerprint
from steer.models.folders import check_fit, check_folder, check_place, variant_of
from steer.models.options import PREVIEWS, ModelOptions, Preview, apply, files_of, modules_of, offloaded, prepare
from steer.models.quantize import check
from steer.models.room import bytes_of, fits, room_of
from steer.models.single_file import SUFFIXES, Checkpoint, part_dtype
from steer.models.stock.signature import Argument, CallSignature
from steer.registry.declarations import Repository
from steer.registry.plugins import Plugins
from steer.settings.run_settings import check_setting
from steer.settings.strict_json import read_object

log = logging.getLogger(__name__)

DEFAULTS_FILE = "steer.json"
"""In a model's folder: its own defaults of a run's settings, for example ``{"steps": 30}``."""

OFFLINE = "the hub cannot be reached (offline); go online once to fetch it, or give a local folder in diffusers format"
VARIANTS = {torch.float16: "fp16", torch.bfloat16: "bf16"}
"""Variants of half the size that are fetched for a precision, if the repository has them."""

DENOISERS = ("unet", "transformer")
"""Names of the part of a pipeline that denoises."""
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
            model or its denoiser, a hub id, or a diffusers pipeline in memory (not changed, and not moved unless
            ``device`` is given).
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
    source = _source(name, plugins)
    if chosen.quantize is not None:
        check(chosen.quantize)
    checkpoint = _checkpoint(source, name, chosen)
    place = source if checkpoint is None else Source(chosen.base or checkpoint.beside or checkpoint.origin)
    shown = name if checkpoint is None else place.name
    with nullcontext() if checkpoint is None else _base_of(checkpoint):
        config = _pipeline_config(place, shown, chosen.revision, plugins)
        class_name = chosen.pipeline or str(config.get("_class_name") or "")
        family = _family(class_name, plugins, whole=chosen.pipeline is not None)

        for path, *_ in chosen.loras:  # a wrong one is told before the model is fetched
            lora_files.locate(path)

        import diffusers

        where = pick_device(device)
        precision = pick_dtype(dtype, where, family.half)
        pipeline_class = getattr(diffusers, class_name)
        needed = _needed(pipeline_class, family)
        held = set() if checkpoint is None else checkpoint.parts(class_name, next(p for p in DENOISERS if p in needed))
        elsewhere = {*held, *(("vae",) if chosen.vae else ())}
        folder = place.folder or _fetched(place, shown, chosen, precision, elsewhere)
        taken, options_taken = map(set, pipeline_class._get_signature_keys(pipeline_class))
        if chosen.pipeline is not None:  # another class need not take all parts
            taken |= config.keys()
        check_folder(folder, shown, config, needed, {*taken, *options_taken}, elsewhere, fit=family.predicts)
    keywords: dict[str, Any] = {
        "torch_dtype": family.precision(precision),
        "variant": variant_of(folder, shown, config, chosen.variant),
    }
    if "safety_checker" in config:  # never called here; not worth 1.2 GB
        keywords["safety_checker"] = None
        if "requires_safety_checker" in options_taken:
            keywords["requires_safety_checker"] = False
    try:
        given = {}
        if chosen.vae is not None:
            own = folder / "vae"
            given["vae"] = load_vae(chosen.vae, config["vae"][1], own, part_dtype(keywords["torch_dtype"], "vae"))
        if checkpoint is None:
            pipe = pipeline_class.from_pretrained(str(folder), **given, **keywords)
        else:
            pipe = checkpoint.pipeline(pipeline_class, folder, held - given.keys(), given, keywords)
        parts = _fingerprints(pipe)
        ours = where.type == "cuda" and chosen.offload == "none"
        crowded = ours and not fits(bytes_of(modules_of(pipe).values()), room_of(where))
        applied = chosen
        if not family.predicts:  # nobody but diffusers can bring parts to the device within a call
            applied = replace(chosen, offload="model") if crowded else chosen
            ours = crowded = False
        apply(pipe, applied, where, move=not crowded)
        if crowded and chosen.quantize is not None and fits(bytes_of(modules_of(pipe).values()), room_of(where)):
            crowded = False
            pipe.to(where)
    except SteerError:
        raise
    except Exception as error:  # damaged weights, foreign classes, missing packages: a dozen kinds
        log.debug("loading %s failed", source.name, exc_info=True)
        raise _unloadable(name, error, config) from error
    backbone = _prepare(family(pipe))  # type: ignore[call-arg]
    if ours:
        backbone.reside(where, crowded=crowded)
    _receive(backbone, chosen)
    defaults = {**KNOWN_DEFAULTS.get(shown, {}), **_defaults(place.folder)}
    return _model(name, backbone, defaults, chosen, files_of(name, chosen), parts)


def call_inputs(model: Any, plugins: Plugins, options: ModelOptions) -> tuple[str, Mapping[str, Argument]]:
    """Return the class of a model's pipeline, and the inputs of its call beside the text, before the model is loaded.

    Raises:
        SteerError: as :func:`load_model` does for a model that does not exist.
    """
    if not isinstance(model, (str, Path)):
        name, pipeline_class = type(model).__name__, type(model)
    else:
        kind, colon, _ = str(model).partition(":")
        if colon and kind in plugins.registry.loaders:
            return str(model), {}
        source = _source(str(model), plugins)
        checkpoint = _checkpoint(source, str(model), options)
        place = source if checkpoint is None else Source(options.base or checkpoint.beside or checkpoint.origin)
        name = options.pipeline or str(
            _pipeline_config(place, str(model), options.revision, plugins).get("_class_name") or ""
        )
        pipeline_class = _pipeline_class(name, plugins)
    known = options.pipeline is None and name in plugins.registry.backbones
    return name, {} if known else CallSignature(pipeline_class).inputs


def _source(name: str, plugins: Plugins) -> Source:
    alias = plugins.registry.models.get(name)
    return Source(str(alias.load()()) if alias else name)


def _checkpoint(source: Source, name: str, options: ModelOptions) -> Checkpoint | None:
    """Return the model in one file that a name means, or ``None`` if it means something else."""
    path = source.path
    if path is not None and path.is_file() and path.suffix.lower() in SUFFIXES:
        return Checkpoint.of(path, name)
    if options.base is not None:
        raise SteerError(f"--base is for a model in one file ({', '.join(SUFFIXES)}), and {name!r} is none; drop it")
    return None


@contextmanager
def _base_of(checkpoint: Checkpoint) -> Iterator[None]:
    """Say in errors about a base why it is needed."""
    try:
        yield
    except SteerError as error:
        raise SteerError(
            f"model {checkpoint.name!r} needs a base for configurations, tokenizers and parts that it lacks: {error}; "
            "name one by --base (a folder in diffusers format, or a hub id)"
        ) from error


def _needed(pipeline_class: Any, family: type[Backbone]) -> dict[str, tuple[str, ...]]:
    """Return the parts that a family needs of its pipeline, with the classes that a denoiser may be."""
    types = pipeline_class._get_signature_types()
    parts, _ = pipeline_class._get_signature_keys(pipeline_class)
    # a family knows what it does without; else the class says so
    optional = family.optional if family.predicts else pipeline_class._optional_components
    return {
        part: tuple(cls.__name__ for cls in types.get(part, ())) if part in DENOISERS and family.predicts else ()
        for part in parts
        if part not in optional
    }


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
    family: type[Backbone] = _any_pipeline(type(pipe)) if known is None else known.load()
    name = str(getattr(pipe, "name_or_path", None) or getattr(pipe, "_name_or_path", None) or type(pipe).__name__)
    _check_pipeline(pipe, name, family)
    if options.base is not None or options.vae is not None:
        raise SteerError("base and vae are for models that steer loads; set pipe.vae of a pipeline in memory")
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
) -> Model:
    preview = _preview(backbone, options)
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
    for part in _needed(type(pipe), family):
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


def _preview(backbone: Backbone, options: ModelOptions) -> Preview | None:
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
    preview = Preview(options.preview, backbone.device, dtype)
    preview.check(backbone.latent_shape(None, None)[0])
    return preview


def _prepare(backbone: Backbone) -> Backbone:
    """Put every part into inference mode; dropout in a text encoder would make a run unrepeatable."""
    for part in modules_of(backbone.pipe).values():
        part.eval().requires_grad_(False)
    return backbone


def _family(class_name: str, plugins: Plugins, *, whole: bool) -> type[Backbone]:
    """Return the family that claims a pipeline class; without one, or if ``whole``, the backbone of any pipeline."""
    known = plugins.registry.backbones
    if whole or class_name not in known:
        return _any_pipeline(_pipeline_class(class_name, plugins))
    found: type[Backbone] = known[class_name].load()
    return found


def _pipeline_class(name: str, plugins: Plugins) -> type:
    """Return a pipeline class of diffusers.

    Raises:
        SteerError: if there is none of that name.
    """
    import diffusers

    found = getattr(diffusers, name, None) if name in dir(diffusers) else None
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        pipelines = [one for one in dir(diffusers) if one.endswith("Pipeline")]
        raise SteerError(
            f"{name or '(none)'!r} is no pipeline class of diffusers {diffusers.__version__}"
            f"{nearest(name, pipelines)}; update diffusers, or load the pipeline in Python and give it to steer.Sampler"
        )
    return found


def _any_pipeline(pipeline_class: type) -> type[Backbone]:
    """Return the backbone of pipelines without a family.

    Raises:
        SteerError: if they cannot be steered.
    """
    from steer.models.stock.backbone import AnyPipeline

    CallSignature(pipeline_class).check()
    return AnyPipeline


def _pipeline_config(source: Source, name: str, revision: str | None, plugins: Plugins) -> dict[str, Any]:
    """Read ``model_index.json`` before any weights, so that a mistake costs no download."""
    if source.path is not None:
        check_place(source.path, name)
        return read_object(source.path / "model_index.json", "pipeline")
    if "://" in name:
        shown = name.partition("?")[0]  # what follows may hold a key
        raise SteerError(f"model {shown!r} is a URL; give a hub id like ORG/NAME, or fetch it and name the folder")
    if not source.like_an_id():
        names = sorted(plugins.registry.models)
        raise SteerError(
            f"unknown model {name[:100]!r}{nearest(name, names)}; expected a known name "
            f"({', '.join(names) or 'none'}), a local folder in diffusers format, or a hub id like org/name"
        )
    cached = hub.cached_file(source.name, "model_index.json", revision)
    if cached is None and not hub.reachable():
        raise SteerError(f"model {name!r} is no local folder and not in the hub's cache, and {OFFLINE}")
    try:
        index = cached or hub.fetch(source.name, "model_index.json", revision)
    except NoSuchFile as error:
        raise SteerError(
            f"model {name!r} is no diffusers pipeline: {error}; expected a repository with model_index.json"
        ) from error
    except SteerError as error:
        raise SteerError(f"model {name!r} is no local folder, and {error}") from error
    return read_object(index, "pipeline")


def _defaults(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / DEFAULTS_FILE).is_file():
        return {}
    values = read_object(folder / DEFAULTS_FILE, "model's defaults")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in values.items():
        check_setting(key, value)
    return values
