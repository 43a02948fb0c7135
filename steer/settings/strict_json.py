"""Writing strict JSON, which parsers without ``NaN`` read too, and reading objects from JSON files."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer.errors import SteerError, message_of
from steer.settings.text_files import read_text


def json_text(
    data: Any, *, indent: int | None = None, readable: bool = False, sort_keys: bool = False, compact: bool = False
) -> str:
    """Return data as strict JSON.

    NaN and infinities become null, arrays and tensors become lists, and other objects become their text.

    Args:
        data: plain data.
        indent: spaces per level; one line by default.
        readable: keep letters beyond ASCII as they are. Halves of characters, which UTF-8 does not have, stay escaped.
        sort_keys: write keys in order.
        compact: leave out spaces.
    """
    how: dict[str, Any] = {"indent": indent, "ensure_ascii": not readable, "sort_keys": sort_keys}
    how |= {"separators": (",", ":")} if compact else {}
    try:
        text = json.dumps(data, allow_nan=False, default=_known, **how)
    except ValueError:  # only then, because the walk takes longer than the writing
        text = json.dumps(_finite(data), allow_nan=False, default=_known, **how)
    return text.encode("utf-8", "backslashreplace").decode() if readable else text  # \udc80 is JSON's escape too


def read_object(place: str | Path, what: str) -> dict[str, Any]:
    """Return the object in a JSON file at a path or an fsspec URL.

    Args:
        place: the path or URL.
        what: the kind of the file, for messages.

    Raises:
        SteerError: naming the place, if it cannot be read, is damaged or holds something else.
    """
    try:
        data = json.loads(read_text(place, what))
    except (ValueError, RecursionError) as error:
        raise SteerError(f"{what} {place} cannot be read as JSON ({message_of(error)})") from None
    if not isinstance(data, dict):
        raise SteerError(f"{what} {place} holds a JSON {type(data).__name__}, expected an object")
    return data


def object_in(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if there is none, or nothing that can be read."""
    try:
        return read_object(file, "file")
    except SteerError:
        return {}


def _known(value: Any) -> Any:
    return _finite(value.tolist()) if hasattr(value, "tolist") else str(value)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(k) if isinstance(k, float) else k: _finite(value) for k, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, (list, tuple)) else data
