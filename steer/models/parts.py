"""Parts of a pipeline from elsewhere: a ControlNet, an image encoder, another transformer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError, message_of, unknown
from steer.models.downloads import weights
from steer.models.downloads.source import Source
from steer.models.folders import check_part
from steer.registry.declarations import Repository
from steer.settings.strict_json import object_in

Part = tuple[str, str]
"""A part's name in the pipeline, and a folder or hub id."""


def parse(items: Iterable[str]) -> tuple[Part, ...]:
    """Parse parts as users write them, ``controlnet=FOLDER``.

    Raises:
        SteerError: for another form, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, source = item.partition("=")
        if not (name and equals and source):
            raise SteerError(f"part {item[:80]!r}: expected NAME=ID|FOLDER, such as controlnet=ORG/NAME")
        if name in found:
            raise SteerError(f"part {name} is given twice: {found[name]!r} and {source!r}; keep one")
        found[name] = source
    return tuple(found.items())


def check_names(parts: Sequence[Part], pipeline_class: Any) -> None:
    """Raise for a part that a pipeline's class does not take."""
    known, _ = pipeline_class._get_signature_keys(pipeline_class)
    for name, _ in parts:
        if name not in known:
            raise unknown(f"part of {pipeline_class.__name__}", name, known)


def folder_of(part: Part) -> Path:
    """Return the folder with a part, fetched now if it must be; in a pipeline's folder, that of its own part.

    Raises:
        SteerError: if there is none.
    """
    name, place = part
    source = Source(place)
    if source.folder is None and not source.like_an_id():
        raise SteerError(f"part {name}: {place!r} does not exist; expected a folder, or a hub id like org/name")
    folder = source.folder or weights.locate(Repository(source.name, option=""), owner=place)
    return folder / name if (folder / "model_index.json").is_file() else folder


def load_part(part: Part, pipeline_class: Any, dtype: torch.dtype) -> Any:
    """Load a part.

    Args:
        part: its name, and its place.
        pipeline_class: takes it.
        dtype: of weights.

    Raises:
        SteerError: if it is damaged, or of a class that the pipeline does not take.
    """
    import diffusers
    import transformers

    name, place = part
    folder = folder_of(part).absolute()
    expected = [one for one in pipeline_class._get_signature_types().get(name, ()) if hasattr(one, "from_pretrained")]
    config = object_in(folder / "config.json")
    own = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
    kind = expected[0] if own is None and expected else None
    for library in (diffusers, transformers) if own else ():
        kind = kind or getattr(library, str(own), None)
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise SteerError(f"part {name}: {place!r} holds {f'a {own}' if own else 'nothing'} that can be loaded here")
    if expected and not issubclass(kind, tuple(expected)):
        names = " or ".join(one.__name__ for one in expected)
        raise SteerError(f"part {name}: {place!r} is a {kind.__name__}, expected {names}")
    check_part(folder, f"part {name} ({place})", kind.__name__, weights=True)
    keywords: dict[str, Any] = {"local_files_only": True}
    if issubclass(kind, torch.nn.Module):
        keywords["torch_dtype" if kind.__module__.startswith("diffusers") else "dtype"] = dtype
    try:
        return kind.from_pretrained(str(folder), **keywords)
    except Exception as error:  # foreign tensors are found by a dozen kinds of errors
        raise SteerError(
            f"part {name}: {place!r} cannot be loaded as a {kind.__name__}: {message_of(error)}"
        ) from error
