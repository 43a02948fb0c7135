"""Configuration files that lie beside weights."""

import json
from pathlib import Path
from typing import Any

from steer import SteerError
from steer.plugin import read_text


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        SteerError: naming the file, if it cannot be read or holds something else.
    """
    try:
        data = json.loads(read_text(file, "file"))
    except (ValueError, RecursionError) as error:
        raise SteerError(f"{file} cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(data, dict):
        raise SteerError(f"{file} holds a JSON {type(data).__name__}, expected an object")
    return data
