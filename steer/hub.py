"""The hub: whether it can be reached, found out quickly, and what its cache holds."""

from __future__ import annotations

import functools
import logging
import socket
import urllib.parse
import urllib.request
from pathlib import Path

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that a connection may take. The hub's own client retries for half a minute where there is no network."""


@functools.cache
def reachable() -> bool:
    """Whether the hub answers; asked once a process. False in its offline mode, where only the cache is used."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies().keys() & {"https", "all"}:
        return True  # the proxy's affair; names need not resolve here
    url = urllib.parse.urlsplit(constants.ENDPOINT)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), timeout=PATIENCE).close()
    except OSError as error:
        log.debug("the hub cannot be reached: %s", error)
        return False
    return True


def cached_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """Return a file of the hub's cache, or ``None`` if it is not there."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, cache_dir=constants.HF_HUB_CACHE, revision=revision)
    return Path(found) if isinstance(found, str) else None
