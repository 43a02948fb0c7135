"""Output folders: images with their recipes, texts, traces, a contact sheet, ``result.json``. Whole files or none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from steer.results.cost import Cost
from steer.results.sheets import contact_sheet
from steer.results.storage import storage_at

if TYPE_CHECKING:
    from steer.results.items import Item

RESULT, TRACES = "result.json", "traces"
TEXTS = "texts.jsonl"
"""One line a text, with what was asked and how it was scored."""
SUFFIXES = {"image": ".png", "text": ".txt"}
"""Of samples' files."""
TRAIL = "tokens"
"""Kind of the events that say how a text came to be; charts are not drawn for them alone."""
CONTACT_SHEET, COMPARISON, TEXT_COMPARISON = "sheet.png", "compare.png", "compare.txt"
"""Pictures beside the samples that are none."""


class OutputFolder:
    """A folder that is filled item by item, so that what is finished is never lost.

    Attributes:
        storage: where it is; ``storage.name`` is for people.
    """

    def __init__(self, place: str | Path) -> None:
        """Check that the folder can be written to; it is made with the first file, so that an error leaves nothing.

        Args:
            place: a path or an fsspec URL.

        Raises:
            SteerError: if it cannot.
        """
        self.storage = storage_at(place)
        self.storage.check()
        self._rows: list[dict[str, Any]] = []
        self._texts: list[dict[str, Any]] = []
        self._cells: list[tuple[Any, str, str]] = []

    def write(self, item: Item) -> list[str]:
        """Write one prompt's chosen samples, its trace and the trace's plot; return the samples' places."""
        stem = file_stem(item.prompt.id)
        files = []
        for index in item.chosen:
            sample = item.samples[index]
            files.append(f"{stem}-{sample.slot:03d}{SUFFIXES[item.modality]}")
            self.storage.write(files[-1], sample_bytes(item, index))
            if item.modality == "image":
                score = "" if sample.reward is None else f"{sample.reward:.3f}"
                self._cells.append((sample.image, str(item.prompt), score))
        self.storage.write(f"{TRACES}/{stem}.json", _json(item.trace))
        if any(event["kind"] != TRAIL for event in item.trace["events"]):
            from steer.results.trace_plot import plot  # torch and matplotlib, which names of files need not wait for

            self.storage.write(f"{TRACES}/{stem}.png", plot(item.trace))
        row = item_row(item, files)
        self._texts += list(metadata_rows(row)) if item.modality == "text" else []
        self._rows.append({**row, "recipe": item.recipe.as_dict()})
        return [self.storage.url(file) for file in files]

    def write_picture(self, name: str, picture: Image.Image) -> str:
        """Write a picture that is no sample, such as a comparison sheet; return its place."""
        self.storage.write(name, _png(picture))
        return self.storage.url(name)

    def write_text(self, name: str, text: str) -> str:
        """Write a text that is no sample; return its place."""
        self.storage.write(name, text.encode("utf-8", "surrogatepass"))
        return self.storage.url(name)

    def write_json(self, name: str, data: Any) -> str:
        """Write plain data as JSON; return its place."""
        self.storage.write(name, _json(data))
        return self.storage.url(name)

    def finish(self, cost: Cost, **more: Any) -> dict[str, Any]:
        """Write the contact sheet or ``texts.jsonl``, and ``result.json``; return what the latter holds."""
        data: dict[str, Any] = {"schema": 1, "items": self._rows, "cost": cost.as_dict(), **more}
        if self._cells:
            self.write_picture(CONTACT_SHEET, contact_sheet(self._cells))
        if self._texts:
            self.write_text(TEXTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._texts))
        self.write_json(RESULT, data)
        return data


def file_stem(prompt_id: str) -> str:
    """Return a file name for a prompt id.

    Ids come from files of others: whatever is no plain name is hashed, and so is whatever another id's name could
    be, on file systems that tell no case too.
    """
    if re.fullmatch(r"[a-z0-9_][a-z0-9_.-]{0,79}", prompt_id) and not re.search(r"-[0-9a-f]{12}$", prompt_id):
        return prompt_id
    digest = hashlib.blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", prompt_id)[:40].strip("-")
    return f"{plain}-{digest}" if plain else digest


def sample_bytes(item: Item, index: int) -> bytes:
    """Return one of an item's samples as a file: a PNG that carries its recipe, or a text in UTF-8 and nothing else."""
    sample = item.samples[index]
    if isinstance(sample.value, str):
        return f"{sample.value}\n".encode("utf-8", "surrogatepass")
    return _png(sample.image, pnginfo=item.recipe.png_info(sample.slot))


def item_row(item: Item, files: Sequence[str]) -> dict[str, Any]:
    """Return what an item came to as plain data, its images' files included, its recipe and trace not."""
    return {
        "id": item.prompt.id,
        "prompt": str(item.prompt),
        "category": item.prompt.category,
        "seed": item.seed,
        "files": list(files),
        "reward": item.reward,
        "mean_reward": item.mean_reward,
        "judge": dict(item.judge),
        "particles": [
            {
                **({"text": s.value} if isinstance(s.value, str) else {}),
                "slot": s.slot,
                "reward": s.reward,
                "judge": dict(s.judge),
                "log_weight": s.log_weight,
                "chosen": i in item.chosen,
            }
            for i, s in enumerate(item.samples)
        ],
        "log_z": item.trace["log_z"],
        "unique_ancestors": item.trace["unique_ancestors"],
    }


SAMPLE_KEYS = ("slot", "reward", "judge", "log_weight")


def metadata_rows(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row a chosen sample of an item's, in the form that Hugging Face's imagefolder reads; texts have their
    ``text``."""
    chosen = [particle for particle in row["particles"] if particle["chosen"]]
    for file, particle in zip(row["files"], chosen, strict=True):
        sample = {key: particle[key] for key in SAMPLE_KEYS}
        # every row has the same columns of the same types
        yield {
            "file_name": file, **({"text": particle["text"]} if "text" in particle else {}), "prompt": row["prompt"],
            "id": row["id"], "category": row["category"], "seed": (row["seed"] + particle["slot"]) % 2**32, **sample,
            "judge": json.dumps(sample["judge"]) if sample["judge"] else None,
        }  # fmt: skip


def _png(picture: Image.Image, **keywords: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG", **keywords)
    return buffer.getvalue()


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n").encode("utf-8", "surrogatepass")
