"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from steer import SteerError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path`` and rename, so that an interruption or a full disk leaves the old file whole.

    Raises:
        SteerError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SteerError(f"{path} cannot be written ({reason}); make room, or choose another --out") from error
    finally:
        temporary.unlink(missing_ok=True)
