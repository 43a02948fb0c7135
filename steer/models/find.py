"""What a model's name means: its configuration, pipeline class and family, before any weights are fetched or read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from steer.errors import SteerError, nearest
from steer.models.backbone import Backbone
from steer.models.downloads import hub
from steer.models.downloads.fetching import NoSuchFile
from steer.models.downloads.source import Source
from steer.models.folders import check_place
from steer.models.options import ModelOptions
from steer.models.parts import check_names
from steer.models.single_file import SUFFIXES, Checkpoint
from steer.models.stock.signature import Argument, CallSignature
from steer.registry.plugins import Plugins
from steer.settings.strict_json import read_object

OFFLINE = "the hub cannot be reached (offline); go online once to fetch it, or give a local folder in diffusers format"
DENOISERS = ("unet", "transformer")
"""Names of the part of a pipeline that denoises."""


@dataclass(frozen=True)
class Found:
    """A pipeline that a name means.

    Attributes:
        name: as the user wrote it.
        shown: for messages about the folder or repository; another than ``name`` if that is a file with a base.
        place: where its configurations are, and the parts that ``checkpoint`` lacks.
        checkpoint: the file with its denoiser, if it is in one.
        config: the content of ``model_index.json``.
        class_name: of the pipeline.
        family: the backbone for it.
    """

    name: str
    shown: str
    place: Source
    checkpoint: Checkpoint | None
    config: dict[str, Any]
    class_name: str
    family: type[Backbone]

    @property
    def pipeline_class(self) -> Any:
        """The class of diffusers."""
        return pipeline_class(self.class_name)

    @cached_property
    def needed(self) -> dict[str, tuple[str, ...]]:
        """The parts that it cannot do without; see :func:`needed_parts`."""
        return needed_parts(self.pipeline_class, self.family)

    def held(self) -> set[str]:
        """Return the parts whose weights the one file has."""
        if self.checkpoint is None:
            return set()
        return self.checkpoint.parts(self.class_name, next(part for part in DENOISERS if part in self.needed))

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Say in errors about a base why it is needed."""
        try:
            yield
        except SteerError as error:
            if self.checkpoint is None:
                raise
            raise _of_a_base(self.checkpoint, error) from error


def find(name: str, plugins: Plugins, options: ModelOptions) -> Found:
    """Find a pipeline by name; fetches configurations only, so that a mistake costs no download.

    Args:
        name: a registered name, a local folder or file, or a hub id.
        plugins: for registered names and families.
        options: the base of a model in one file, the revision, the pipeline class.

    Raises:
        SteerError: for a model that does not exist, cannot be reached, or that nothing here can steer.
    """
    source = _source(name, plugins)
    checkpoint = _checkpoint(source, name, options)
    place = source if checkpoint is None else Source(options.base or checkpoint.beside or checkpoint.origin)
    shown = name if checkpoint is None else place.name
    try:
        config = _pipeline_config(place, shown, options.revision, plugins)
        class_name = options.pipeline or str(config.get("_class_name") or "")
        family = _family(class_name, plugins, whole=options.pipeline is not None)
    except SteerError as error:
        if checkpoint is None:
            raise
        raise _of_a_base(checkpoint, error) from error
    if options.parts:
        check_names(options.parts, pipeline_class(class_name))
    return Found(name, shown, place, checkpoint, config, class_name, family)


def call_inputs(model: Any, plugins: Plugins, options: ModelOptions) -> tuple[str, Mapping[str, Argument]]:
    """Return the class of a model's pipeline, and the inputs of its call beside the text, before the model is loaded.

    Raises:
        SteerError: as :func:`find`.
    """
    if not isinstance(model, (str, Path)):
        known = options.pipeline is None and type(model).__name__ in plugins.registry.backbones
        return type(model).__name__, {} if known else CallSignature(type(model)).inputs
    if loader_of(str(model), plugins) is not None:
        return str(model), {}
    found = find(str(model), plugins, options)
    return found.class_name, {} if found.family.predicts else CallSignature(found.pipeline_class).inputs


def loader_of(name: str, plugins: Plugins) -> tuple[str, str] | None:
    """Return kind and argument of a name such as ``symmflow:FOLDER``, whose kind a plugin loads; else ``None``."""
    kind, colon, argument = name.partition(":")
    return (kind, argument) if colon and kind in plugins.registry.loaders else None


def needed_parts(pipeline_class: Any, family: type[Backbone]) -> dict[str, tuple[str, ...]]:
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


def pipeline_class(name: str) -> type:
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


def any_pipeline(pipeline_class: type) -> type[Backbone]:
    """Return the backbone of pipelines without a family.

    Raises:
        SteerError: if they cannot be steered.
    """
    from steer.models.stock.backbone import AnyPipeline

    CallSignature(pipeline_class).check()
    return AnyPipeline


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


def _of_a_base(checkpoint: Checkpoint, error: SteerError) -> SteerError:
    return SteerError(
        f"model {checkpoint.name!r} needs a base for configurations, tokenizers and parts that it lacks: {error}; "
        "name one by --base (a folder in diffusers format, or a hub id)"
    )


def _family(class_name: str, plugins: Plugins, *, whole: bool) -> type[Backbone]:
    """Return the family that claims a pipeline class; without one, or if ``whole``, the backbone of any pipeline."""
    known = plugins.registry.backbones
    if whole or class_name not in known:
        return any_pipeline(pipeline_class(class_name))
    found: type[Backbone] = known[class_name].load()
    return found


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
