"""Items as plain data: the rows of ``result.json``, of a render's journal and of ``metadata.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from steer.settings.strict_json import json_text

if TYPE_CHECKING:
    from steer.results.items import Item

SCORES = ("slot", "reward", "judge", "log_weight")
"""The fields of a row with one value per particle."""


def item_row(item: Item, files: Sequence[str]) -> dict[str, Any]:
    """Return an item's results and file names as plain data, without its recipe and trace."""
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
                **item.medium.facts(sample.value),
                "slot": sample.slot,
                "reward": sample.reward,
                "judge": dict(sample.judge),
                "log_weight": sample.log_weight,
                "chosen": index in item.chosen,
            }
            for index, sample in enumerate(item.samples)
        ],
        "log_z": item.trace["log_z"],
        "unique_ancestors": item.trace["unique_ancestors"],
    }


def chosen_particles(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chosen particles of an item's row, in the order of its files."""
    return [particle for particle in row["particles"] if particle["chosen"]]


def seed_of(row: Mapping[str, Any], particle: Mapping[str, Any]) -> int:
    """Return the seed that made a particle: that of its row is slot 0's."""
    seed: int = (row["seed"] + particle["slot"]) % 2**32
    return seed


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether an item's row from a file has its fields, with their types; the status of one that failed counts too."""
    try:
        if not all(isinstance(row[key], str) for key in ("id", "prompt")):
            return False
        if row["status"] != "done":
            return isinstance(row["reason"], str)
        size, category = row.get("size"), row.get("category")
        if not (category is None or isinstance(category, str)) or not (size is None or _two_numbers(size)):
            return False
        if not all(type(row.get(key, 0)) is int for key in ("index", "replicate")):
            return False
        chosen = chosen_particles(row)
        numbers = [row["seed"], *(particle["slot"] for particle in chosen)]
        scores = [score for p in chosen for score in (p["reward"], *p["judge"].values()) if score is not None]
        return (
            len(chosen) == len(row["files"])
            and all(_below(file) for file in row["files"])
            and all(type(number) is int for number in numbers)
            and all(isinstance(score, (int, float)) for score in scores)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _two_numbers(size: Any) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)


def _below(file: Any) -> bool:
    """Whether a file's name leads to somewhere below its folder."""
    return isinstance(file, str) and not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts


def metadata_rows(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row per chosen sample of an item's row, in the form that Hugging Face's imagefolder reads.

    It includes the medium's fields, such as the text of a text.
    """
    # every row has the same columns of the same types
    for file, particle in zip(row["files"], chosen_particles(row), strict=True):
        yield {
            "file_name": file,
            **{name: value for name, value in particle.items() if name not in (*SCORES, "chosen")},
            "prompt": row["prompt"],
            "id": row["id"],
            "category": row.get("category"),
            "seed": seed_of(row, particle),
            **{name: particle.get(name) for name in SCORES},
            "judge": json_text(particle["judge"]) if particle["judge"] else None,
        }
