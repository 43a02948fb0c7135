"""Weights of measures: the user's file, else the cached one, else one fetched now."""

import urllib.parse
from pathlib import Path

from steer.errors import SteerError
from steer.models.downloads import weights
from steer.registry.declarations import Weights


def file_of(needed: Weights, given: str | None, *, measure: str, option: str) -> Path:
    """Return the file of a network.

    Args:
        needed: with its address.
        given: the user's value of an option.
        measure: that needs it, for messages.
        option: as typed.

    Raises:
        SteerError: if it is nowhere and cannot be fetched.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise SteerError(f"{option} {given}: there is no such file")
        return path
    cached = weights.cached(needed)
    if cached is None and not weights.reachable(needed):
        host = urllib.parse.urlsplit(needed.url or "").hostname
        raise SteerError(
            f"measure {measure} needs {needed.label}, which is not in the hub's cache, and {host} cannot be reached: "
            f"fetch {needed.url} on a machine that can, copy it here, and give {option} FILE"
        )
    return cached or weights.fetch(needed)
