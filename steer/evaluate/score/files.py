"""Files to score: images, and videos, which stay in their files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from steer.errors import SteerError
from steer.evaluate.score.images import Picture, find_images, read_image, read_texts
from steer.models.media import Medium, media_at, media_of, mp4
from steer.models.media.video import VideoFile
from steer.prompts.pictures.opening import IMAGE_SUFFIXES, ImageError

VIDEO = media_of("video")
SUFFIXES = (*IMAGE_SUFFIXES, VIDEO.suffix, *VIDEO.suffixes)
"""Endings of files that are scored."""


class FileError(SteerError):
    """A file that cannot be scored; the others can."""


@dataclass(frozen=True)
class Clip:
    """A video that was decoded once without an error: its frames, its texts, and a hash of its bytes."""

    samples: VideoFile
    texts: Mapping[str, str]
    digest: str


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the images and videos that paths name, as :func:`find_images` does."""
    return find_images(paths, SUFFIXES)


def medium_of(path: Path) -> Medium:
    """Return the medium as which a file is read, by its name: a video, else an image, whatever the name says."""
    return VIDEO if media_at(path) is VIDEO else media_of("image")


def read_file(path: Path) -> Picture | Clip:
    """Read a file.

    Raises:
        FileError: if it cannot be used.
        SteerError: for a video without the package that reads them.
    """
    if medium_of(path) is VIDEO:
        return read_video(path)
    try:
        return read_image(path)
    except ImageError as error:
        raise FileError(str(error)) from None


def read_video(path: Path) -> Clip:
    """Look through a video; its frames are decoded again when they are scored.

    Raises:
        FileError: if it is no video, is damaged, or is far too large.
        SteerError: without the package that reads videos.
    """
    VIDEO.check()
    try:
        facts, texts = mp4.checked(path), mp4.texts(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except SteerError as error:
        raise FileError(str(error)) from None
    return Clip(VideoFile(path, facts), texts, digest)


def texts_in(path: Path) -> Mapping[str, str]:
    """Return the texts in a file without decoding it; none for a file that cannot be read."""
    if medium_of(path) is not VIDEO:
        return read_texts(path)
    try:
        return mp4.texts(path)
    except SteerError:  # as in read_video, which reports the fault
        return {}
