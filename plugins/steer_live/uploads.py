"""Pictures that clients send: checked as hostile, decoded, and stored anew under the hash of their pixels."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image, ImageOps

from steer.plugin import image_bytes, opened_image, storage_at
from steer_live.bodies import Upload

FOLDER = "uploads"


def stored(upload: Upload, what: str, folder: Path, *, mask: bool = False) -> str:
    """Store a picture below a folder and return its path; nothing of the client's file or name goes to the disk.

    Args:
        upload: the file.
        what: names it in messages.
        folder: of the server.
        mask: make a mask of it, white where it is painted anew: where OpenAI's are transparent, and where a mask
            without transparency is white.

    Raises:
        ImageError: if it is no picture, is damaged, or is too large.
    """
    with opened_image(upload.data, what) as image:
        image.load()
        picture = ImageOps.exif_transpose(image)
        if mask:
            picture = _mask(picture)
        elif picture.mode not in ("L", "RGB", "RGBA"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        # texts and profiles that the file carries stay behind
        clean = Image.frombytes(picture.mode, picture.size, picture.tobytes())
    data = image_bytes(clean)
    place = folder / FOLDER / f"{hashlib.sha256(data).hexdigest()}.png"
    if not place.is_file():
        storage_at(place.parent).write(place.name, data)
    return str(place.absolute())


def _mask(picture: Image.Image) -> Image.Image:
    if picture.has_transparency_data:
        return ImageOps.invert(picture.convert("RGBA").getchannel("A"))
    return picture.convert("L")
