"""Images: float ``[N, 3, H, W]`` in [0, 1] as samples, pictures as values, PNGs with their recipe as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from steer.errors import SteerError
from steer.models.media.media import Medium

THUMBNAIL, THUMBNAIL_FROM = 256, 384
"""Longer side of a thumbnail in pixels; the page needs thumbnails of larger images."""

PIXEL_BYTES = 1.6
"""Bytes per pixel of a PNG of a photograph-like picture; plain pictures take a fraction of it."""


class ImageMedium(Medium):
    """Images."""

    name: ClassVar[str] = "image"
    suffix: ClassVar[str] = ".png"
    pictured: ClassVar[bool] = True

    def values(self, samples: Tensor) -> list[Image.Image]:
        return pictures(samples)

    def samples(self, values: Sequence[Image.Image], device: torch.device) -> Tensor:
        arrays = np.stack([np.asarray(value) for value in values])
        return (torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255).to(device)

    def probe(self, size: tuple[int, int], device: torch.device) -> Tensor:
        width, height = size
        return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)

    def size(self, value: Image.Image) -> dict[str, int]:
        return {"width": value.width, "height": value.height}

    def planned_bytes(self, size: tuple[int, int], frames: int) -> int:
        return round(PIXEL_BYTES * size[0] * size[1])

    def picture(self, value: Image.Image) -> Image.Image:
        return value

    def thumbnail(self, value: Image.Image) -> bytes | None:
        if max(value.size) < THUMBNAIL_FROM:
            return None
        return image_bytes(shrunk(value, THUMBNAIL), "WEBP", quality=82)

    def encoded(self, value: Image.Image, texts: Mapping[str, str]) -> bytes:
        info = PngImagePlugin.PngInfo()
        for key, text in texts.items():
            info.add_itxt(key, text)
        return image_bytes(value, pnginfo=info)

    def texts_in(self, path: Path) -> Mapping[str, str]:
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                return dict(getattr(image, "text", {}))
        except FileNotFoundError:
            raise SteerError(f"image {path} does not exist") from None
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise SteerError(f"image {path} cannot be read as PNG: {error}") from None

    def difference(self, file: bytes, value: Image.Image) -> int:
        with Image.open(BytesIO(file)) as original:
            old, new = np.asarray(original.convert("RGB"), dtype=int), np.asarray(value, dtype=int)
        return int(np.abs(old - new).max()) if old.shape == new.shape else 255


def pixels_of(samples: Tensor) -> np.ndarray:
    """Return image samples as bytes ``[N, H, W, 3]``."""
    pixels: np.ndarray = (samples.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def pictures(samples: Tensor) -> list[Image.Image]:
    """Return image samples as pictures."""
    return [Image.fromarray(image) for image in pixels_of(samples)]


def image_bytes(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file; ``options`` are those of ``Image.save``."""
    buffer = BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def shrunk(picture: Image.Image, side: int) -> Image.Image:
    """Return a copy of a picture, no side longer than ``side`` pixels."""
    small = picture.copy()
    small.thumbnail((side, side))
    return small
