"""Image files: which there are, and what they show. Whatever is wrong with one is an :class:`ImageError`."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from steer.errors import SteerError, message_of
from steer.results.names import COMPARISON, CONTACT_SHEET, RESULT, TRACES

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 50_000_000
"""Larger images are refused: 100 bytes of a file can ask for gigabytes."""


class ImageError(SteerError):
    """A file that cannot be scored; the others can."""


@dataclass(frozen=True)
class Picture:
    """A file's content: pixels, float ``[3, H, W]`` in [0, 1], its texts, and a hash of its bytes."""

    pixels: Tensor
    texts: Mapping[str, str]
    digest: str


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return files as named and, sorted, the images of folders and their subfolders; each once.

    The sheets and plots that steer writes beside its samples are no samples.

    Raises:
        SteerError: for a path that does not exist, or if there is no image at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            images = (p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            found |= dict.fromkeys(sorted(p for p in images if not _is_plot(p)))
        elif path.exists():
            found[path] = None
        else:
            raise SteerError(f"image {path} does not exist")
    if not found:
        raise SteerError(f"found no image; expected files or folders with {', '.join(IMAGE_SUFFIXES)}")
    return list(found)


def _is_plot(path: Path) -> bool:
    folder, plot = path.parent, path.name in (CONTACT_SHEET, COMPARISON)
    if folder.name == TRACES:
        folder, plot = folder.parent, True
    return plot and (folder / RESULT).is_file()


def read_image(path: Path) -> Picture:
    """Read an image, whatever its suffix says; transparent parts become white.

    Raises:
        ImageError: if it is none, is damaged, or has more than ``MAX_PIXELS``.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"image {path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            image.load()
            texts = {k: str(v) for k, v in getattr(image, "text", {}).items()}
            pixels = _pixels(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    # decoders of hostile files raise what they like; none of it may stop the other images
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text names a buffer of ours
        reason = "not a PNG, JPEG or WebP" if unknown else message_of(error, 120)
        raise ImageError(f"image {path} cannot be read: {reason}") from None
    return Picture(pixels, texts, hashlib.blake2b(data, digest_size=8).hexdigest())


def read_texts(path: Path) -> dict[str, str]:
    """Return the texts at the beginning of an image file, without decoding it; none of a file that is no image."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=IMAGE_FORMATS) as image:
            return {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
    except Exception:  # as in read_image, which says what is wrong
        return {}


def _pixels(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        gray = torch.from_numpy(np.asarray(image, dtype=np.float32) / 65535).clamp(0, 1)
        return gray.expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(255)
