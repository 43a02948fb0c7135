"""What becomes of a task: files in memory, or a reason why there are none."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from steer.results.folder import item_row, sample_bytes
from steer.results.items import Item

THUMBNAIL, THUMBNAIL_FROM = 256, 384
"""Pixels of a thumbnail's longer side, and the image size from which the page needs one."""


@dataclass(frozen=True)
class Rendered:
    """A task that is done, ready to be written.

    Attributes:
        id: the prompt's.
        images: the samples' files by slot, in the order of choice: PNGs, or texts.
        row: what it came to (:func:`steer.results.folder.item_row`), without files.
        detail: trace, recipe and small pictures for the page.
    """

    id: str
    images: Mapping[int, bytes]
    row: dict[str, Any]
    detail: dict[str, Any]
    modality: str = "image"


@dataclass(frozen=True)
class Failed:
    """A task that cannot be done, and why."""

    id: str
    reason: str


Outcome = Failed | Callable[[], Rendered]
"""A failure, or what makes the files: called by a thread while the device works on."""


def rendered(item: Item, cost: Mapping[str, float], strips: Mapping[int, bytes]) -> Rendered:
    """Encode an item.

    Args:
        item: the item.
        cost: its share of what its pack cost.
        strips: previews of x0 over the steps as WebP, by slot.
    """
    chosen = [item.samples[index] for index in item.chosen]
    detail: dict[str, Any] = {"id": item.prompt.id, "recipe": item.recipe.as_dict(), "trace": item.trace}
    is_text = item.modality == "text"
    thumbnails = [] if is_text else [_thumbnail(sample.image) for sample in chosen]
    if any(thumbnails):
        detail["thumbnails"] = thumbnails
    if strips:
        detail["previews"] = [_text(strips[sample.slot]) if sample.slot in strips else None for sample in chosen]
    images = {item.samples[index].slot: sample_bytes(item, index) for index in item.chosen}
    size = None if is_text else list(chosen[0].image.size)
    row = {**item_row(item, []), "size": size, "steps": item.recipe.settings["steps"], "cost": dict(cost)}
    return Rendered(item.prompt.id, images, row, detail, item.modality)


def _thumbnail(image: Image.Image) -> str | None:
    if max(image.size) < THUMBNAIL_FROM:
        return None
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    small.save(buffer, format="WEBP", quality=82)
    return _text(buffer.getvalue())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
