"""The detectors that are known by name, and where their weights are. Imports no torch."""

import dataclasses

from steer import SteerError
from steer.plugin import Needed, Repository, Source, nearest
from steer_rewards.catalog import clip

DETECTORS = {
    "mask2former": Repository(
        "facebook/mask2former-swin-small-coco-instance", size=276_000_000, license="MIT (of its code)"
    ),
    "owlv2": Repository("google/owlv2-base-patch16-ensemble", size=620_000_000, license="Apache-2.0"),
    "grounding-dino": Repository("IDEA-Research/grounding-dino-tiny", size=689_000_000, license="Apache-2.0"),
}  # fmt: skip
CLIP = "ViT-L-14/openai"
"""The CLIP that names colors in GenEval."""
DEPTH = "Intel/dpt-hybrid-midas"
"""The model of depth of T2I-CompBench++, in transformers' format."""


def detector(argument: str | None) -> list[Needed]:
    """Return the weights of ``count:NAME`` and the like; none for a folder.

    Raises:
        SteerError: for a name that is neither known, nor a folder, nor a hub id.
    """
    name = argument or "mask2former"
    source = Source(name)
    if name in DETECTORS:
        return [DETECTORS[name]]
    if source.folder is not None:
        return []
    if not source.like_an_id():
        raise SteerError(
            f"unknown detector {name!r}{nearest(name, DETECTORS)}; expected {', '.join(DETECTORS)}, ORG/MODEL of the "
            "hub, or a folder"
        )
    return [Repository(name)]


def with_colors(argument: str | None) -> list[Needed]:
    """Return the weights of ``geneval:NAME`` and the like: also those of the CLIP that names colors."""
    return [*detector(argument), *(dataclasses.replace(needed, option="clip") for needed in clip(CLIP))]


def open_vocabulary(argument: str | None) -> list[Needed]:
    """Return the weights of ``compbench-2d:NAME`` and the like, whose usual detector is OWLv2."""
    return detector(argument or "owlv2")


def with_depth(argument: str | None) -> list[Needed]:
    """Return the same for ``compbench-3d``, which also needs a model of depth."""
    return [*open_vocabulary(argument), depth_of(DEPTH)]


def depth_of(name: str) -> Repository:
    """Return the weights of a model of depth."""
    return Repository(name, size=490_000_000 if name == DEPTH else None, license="Apache-2.0", option="depth")
