"""Lines of flags, as A1111's script "Prompts from file or textbox" takes them."""

from __future__ import annotations

import re
import shlex
from typing import Any

from steer.errors import SteerError, nearest
from steer.prompts.reading import Reading
from steer.prompts.rows import OWN

IGNORED = {
    "do_not_save_grid": "steer writes what it is told to by --out",
    "do_not_save_samples": "steer writes what it is told to by --out",
    "outpath_grids": "steer writes what it is told to by --out",
    "outpath_samples": "steer writes what it is told to by --out",
    "prompt_for_display": "the prompt itself is shown",
    "restore_faces": "faces are not restored afterward",
    "sampler_index": "its numbers differ from version to version; write --sampler_name",
    "sd_model": "the model is that of the command, --model",
    "seed_resize_from_h": "noise is that of the size itself",
    "seed_resize_from_w": "noise is that of the size itself",
    "styles": "write what the style adds into the prompt",
    "subseed": "noise is that of the seed alone",
    "subseed_strength": "noise is that of the seed alone",
    "tiling": "images are not made to tile",
}
"""A1111's flags that have no counterpart, and what holds instead."""

FLAGS = ("prompt", *(OWN - {"options"}), "option", "batch_size", "n_iter")
_NAME = re.compile(r"--([A-Za-z]\w*(?:-\w+)*)")


def is_flags(line: str) -> bool:
    """Whether a line is of the form ``--prompt "…" --seed 1``."""
    return _NAME.match(line) is not None


def flags_row(line: str, where: str, reading: Reading) -> dict[str, Any]:
    """Return the row that a line of flags gives; a value goes up to the next flag, quoted or not.

    Raises:
        SteerError: naming the line, for a flag that has no meaning here or is given twice.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise SteerError(f'{where}: {str(error).lower()}; quote texts as in --prompt "a dog\'s bowl"') from None
    given: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        match = _NAME.match(word)
        if match is None:
            values.append(word)
            continue
        name, word = match[1].replace("-", "_"), word[match.end() :]
        if name not in FLAGS and name not in IGNORED:
            raise SteerError(f"{where}: --{name[:60]} means nothing here{nearest(name, FLAGS)}; drop it")
        if name in given and name != "option":
            raise SteerError(f"{where}: --{name} is given twice; keep one")
        values = given.setdefault(name, [])
        if word:
            values.append(word.removeprefix("="))
    assignments = given.pop("option", [])
    for name in [name for name in given if name in IGNORED]:
        values = given.pop(name)
        if " ".join(values).lower() not in ("false", "0", ""):
            reading.tell(f"flag {name}", f"{where}: A1111's --{name} is ignored; {IGNORED[name]}")
    row: dict[str, Any] = {name: " ".join(parts) for name, parts in given.items()}
    for name in ("batch_size", "n_iter"):
        if row.pop(name, "1") != "1":
            raise SteerError(f"{where}: --{name} means nothing here; for several images per prompt give --particles")
    return {**row, "options": assignments} if assignments else row
