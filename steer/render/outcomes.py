"""Outcomes of a task: its files in memory, or the reason of its failure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steer.results.items import Item
from steer.results.rows import item_row


@dataclass(frozen=True)
class Rendered:
    """A task that is done, ready to be written.

    Attributes:
        id: the prompt's.
        files: the samples as files by slot, in the order of choice.
        row: its results (:func:`steer.results.rows.item_row`), without files.
        detail: trace, recipe and small pictures for the page.
        modality: of the samples.
    """

    id: str
    files: Mapping[int, bytes]
    row: dict[str, Any]
    detail: dict[str, Any]
    modality: str = "image"


@dataclass(frozen=True)
class Failed:
    """A failed task, with the reason."""

    id: str
    reason: str


Outcome = Failed | Callable[[], Rendered]
"""A failure, or a function that makes the files; a thread calls it while the device continues."""


def rendered(item: Item, cost: Mapping[str, float], strips: Mapping[int, bytes]) -> Rendered:
    """Encode an item.

    Args:
        item: the item.
        cost: its share of its pack's cost.
        strips: previews of x0 over the steps as WebP, by slot.
    """
    chosen = [item.samples[index] for index in item.chosen]
    detail: dict[str, Any] = {"id": item.prompt.id, "recipe": item.recipe.as_dict(), "trace": item.trace}
    thumbnails = [item.medium.thumbnail(sample.value) for sample in chosen]
    if any(thumbnails):
        detail["thumbnails"] = [_text(picture) for picture in thumbnails]
    if strips:
        detail["previews"] = [_text(strips.get(sample.slot)) for sample in chosen]
    files = {item.samples[index].slot: item.sample_bytes(index) for index in item.chosen}
    size = item.medium.size(chosen[0].value)
    pixels = [size["width"], size["height"]] if {"width", "height"} <= size.keys() else None
    row = {**item_row(item, []), "size": pixels, "steps": item.recipe.settings["steps"], "cost": dict(cost)}
    return Rendered(item.prompt.id, files, row, detail, item.modality)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
