"""Names of the files in an output folder, for writers and readers; importing them loads no model."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steer.models.media import Medium

RESULT, TRACES, METADATA = "result.json", "traces", "metadata.jsonl"
CONTACT_SHEET, COMPARISON, TEXT_COMPARISON = "sheet.png", "compare.png", "compare.txt"
"""Files beside the samples that are not samples."""
OVERVIEWS = (RESULT, CONTACT_SHEET, COMPARISON, TEXT_COMPARISON, "texts.jsonl")
"""Those of a whole run."""
PLAIN = "plain"
"""Folder of a run's baseline."""


def overview_name(medium: Medium) -> str:
    """Return the overview of all chosen samples: a contact sheet, or a file with one line of JSON per sample."""
    return CONTACT_SHEET if medium.pictured else f"{medium.plural}.jsonl"


def comparison_name(medium: Medium) -> str:
    """Return the file with plain samples beside steered ones."""
    return COMPARISON if medium.pictured else TEXT_COMPARISON


def sample_name(prompt_id: str, slot: int, medium: Medium) -> str:
    """Return the file of the sample in one slot."""
    return f"{file_stem(prompt_id)}-{slot:03d}{medium.suffix}"


def file_stem(prompt_id: str) -> str:
    """Return a file name for a prompt id.

    Ids come from files of others. An id that is not a plain name is hashed, and so is one whose name could clash with
    another's on a file system that ignores case.
    """
    if re.fullmatch(r"[a-z0-9_][a-z0-9_.-]{0,79}", prompt_id) and not re.search(r"-[0-9a-f]{12}$", prompt_id):
        return prompt_id
    digest = hashlib.blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", prompt_id)[:40].strip("-")
    return f"{plain}-{digest}" if plain else digest
