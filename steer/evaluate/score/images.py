"""Finding and reading image files; a file that cannot be used raises :class:`ImageError`."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from steer.errors import SteerError
from steer.prompts.pictures.carriers import texts_of
from steer.prompts.pictures.opening import IMAGE_SUFFIXES, ImageError, formats, opened_image
from steer.results.names import COMPARISON, CONTACT_SHEET, METADATA, RESULT, TRACES
from steer.settings.folders import files_in

GRID, SAMPLES = "grid.png", "samples"
"""GenEval's sheet of a prompt's samples, beside the folder that holds them."""


@dataclass(frozen=True)
class Picture:
    """A file's content: pixels, float ``[3, H, W]`` in [0, 1], its texts, and a hash of its bytes."""

    pixels: Tensor
    texts: Mapping[str, str]
    digest: str


def find_images(paths: Iterable[Path], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Return files as named and, sorted, the images of folders and their subfolders; each once.

    Sheets and plots that steer and GenEval write beside samples are left out.

    Args:
        paths: files and folders.
        suffixes: endings of the files to find in folders.

    Raises:
        SteerError: for a path that does not exist, or if there is no image at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(image for image in files_in(path, suffixes) if not _is_plot(image))
        elif path.exists():
            found[path] = None
        elif re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):  # pathlib joins the slashes; a query may hold a key
            raise SteerError(f"image {str(path).partition('?')[0]} is a URL; fetch it, and name the file")
        else:
            raise SteerError(f"image {path} does not exist")
    if not found:
        raise SteerError(f"found no image; expected files or folders with {', '.join(suffixes)}")
    return list(found)


def _is_plot(path: Path) -> bool:
    folder, plot = path.parent, path.name in (CONTACT_SHEET, COMPARISON)
    if path.name == GRID:
        return (folder / METADATA).is_file() and (folder / SAMPLES).is_dir()
    if folder.name == TRACES:
        folder, plot = folder.parent, True
    return plot and (folder / RESULT).is_file()


def read_image(path: Path) -> Picture:
    """Read an image, regardless of its suffix; transparent parts become white.

    Raises:
        ImageError: if it is not an image, is damaged, or has more than ``MAX_PIXELS``.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"image {path} cannot be read: {error.strerror or error}") from None
    with opened_image(data, f"image {path}") as image:
        image.load()
        texts = texts_of(image)
        pixels = _pixels(ImageOps.exif_transpose(image))
    return Picture(pixels, texts, hashlib.blake2b(data, digest_size=8).hexdigest())


def size_of(path: Path) -> tuple[int, int]:
    """Return an image's width and height as :func:`read_image` shows it, without decoding it; zeros if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats()) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception:  # as in read_image, which says what is wrong
        return 0, 0


def read_texts(path: Path) -> dict[str, str]:
    """Return the texts at the beginning of an image file, without decoding it; none for a file that is not an image."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats()) as image:
            return texts_of(image)
    except Exception:  # as in read_image, which reports the fault
        return {}


def _pixels(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):  # 16 bits per pixel, which convert() would cut off at 255
        gray = torch.from_numpy(np.asarray(image, dtype=np.float32) / 65535).clamp(0, 1)
        return gray.expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div_(255)
