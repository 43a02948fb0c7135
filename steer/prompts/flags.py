"""Lines of flags, as A1111's script "Prompts from file or textbox" reads them."""

from __future__ import annotations

import re
import shlex
from typing import Any

from steer.errors import SteerError, nearest
from steer.prompts.reading_options import Reading
from steer.prompts.rows import OWN

IGNORED = {
    "do_not_save_grid": "--out decides what is written",
    "do_not_save_samples": "--out decides what is written",
    "outpath_grids": "--out decides what is written",
    "outpath_samples": "--out decides what is written",
    "prompt_for_display": "the prompt itself is shown",
    "restore_faces": "faces are not restored afterward",
    "sampler_index": "its numbers differ from version to version; write --sampler_name",
    "sd_model": "the command's --model sets the model",
    "seed_resize_from_h": "noise depends on the image's own size",
    "seed_resize_from_w": "noise depends on the image's own size",
    "styles": "write the style's text into the prompt",
    "subseed": "noise depends on the seed alone",
    "subseed_strength": "noise depends on the seed alone",
    "tiling": "images are not made to tile",
}
"""A1111's flags without a counterpart, and the reason that the warning gives."""

FLAGS = ("prompt", *(OWN - {"options"}), "option", "batch_size", "n_iter")
_NAME = re.compile(r"--([A-Za-z]\w*(?:-\w+)*)")


def is_flags(line: str) -> bool:
    """Whether a line is of the form ``--prompt "…" --seed 1``."""
    return _NAME.match(line) is not None


def flags_row(line: str, where: str, reading: Reading) -> dict[str, Any]:
    """Return the row of a line of flags; a value extends to the next flag, quoted or not.

    Raises:
        SteerError: naming the line, if a flag is unknown or given twice.
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
            raise SteerError(f"{where}: --{name[:60]} is not supported{nearest(name, FLAGS)}; drop it")
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
            raise SteerError(f"{where}: --{name} is not supported; for several images per prompt give --particles")
    return {**row, "options": assignments} if assignments else row
