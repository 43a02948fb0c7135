"""Opening image files that nobody vouches for; a file that cannot be used raises :class:`ImageError`."""

import functools
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO

from PIL import Image, UnidentifiedImageError, features

from steer.errors import SteerError, message_of

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".jxl")
"""Endings of image files. Files that need a missing package are found and reported."""
MAX_PIXELS = 50_000_000
"""Pixels of the largest image that is read: a file of 100 bytes could decode to gigabytes."""


class ImageError(SteerError):
    """A file that is no image that can be used."""


@contextmanager
def opened_image(data: bytes, what: str) -> Iterator[Image.Image]:
    """Open an image of one of the formats of :data:`IMAGE_SUFFIXES`; its pixels are not decoded yet.

    Args:
        data: the file.
        what: names it in messages, such as ``"image a.png"``.

    Raises:
        ImageError: if it is not an image, is damaged, or has more than ``MAX_PIXELS``; from within the block too.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data), formats=formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{what} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except SteerError:
        raise
    # decoders may raise anything for hostile files; the other images must still be scored
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text names an internal buffer
        reason = _unreadable(data) if unknown else message_of(error, 120)
        raise ImageError(f"{what} cannot be read: {reason}") from None


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads here, with the packages that add some to it."""
    added = []
    for module, register, form in (("pillow_heif", "register_heif_opener", "HEIF"), ("pillow_jxl", "", "JXL")):
        with suppress(Exception):  # not installed, or not for this Pillow
            package = importlib.import_module(module)
            if register:
                getattr(package, register)()
            added.append(form)
    Image.init()
    return tuple(form for form in ("PNG", "JPEG", "WEBP", "AVIF", *added) if form in Image.OPEN)


def _unreadable(data: bytes) -> str:
    """Return why Pillow does not know a file, and what to install if it could."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in (b"avif", b"avis") and not features.check("avif"):
        return "it is AVIF; install pillow>=11.3"
    if brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1") and "HEIF" not in formats():
        return "it is HEIC; install pillow-heif"
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")) and "JXL" not in formats():
        return "it is JPEG XL; install pillow-jxl-plugin"
    return "not a PNG, JPEG or WebP, nor AVIF, HEIC or JPEG XL"
