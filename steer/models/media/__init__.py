"""Media: images, texts and videos, one object each with everything in which they differ."""

from __future__ import annotations

from pathlib import Path

from steer.errors import unknown
from steer.models.media.image import ImageMedium
from steer.models.media.media import Medium
from steer.models.media.text import TextMedium
from steer.models.media.video import VideoMedium

__all__ = ["MEDIA", "Medium", "media_at", "media_of"]

MEDIA: dict[str, Medium] = {medium.name: medium for medium in (ImageMedium(), TextMedium(), VideoMedium())}
"""Every medium by the name that backbones and rewards declare as their ``modality``."""


def media_of(modality: str) -> Medium:
    """Return the medium of a modality.

    Raises:
        SteerError: for an unknown name; lists the known ones.
    """
    if modality not in MEDIA:
        raise unknown("modality", modality, MEDIA)
    return MEDIA[modality]


def media_at(path: Path) -> Medium:
    """Return the medium of a sample's file by its suffix; a file of no known suffix is read as an image."""
    suffix = path.suffix.lower()
    found = (medium for medium in MEDIA.values() if suffix in (medium.suffix, *medium.suffixes))
    return next(found, MEDIA["image"])
