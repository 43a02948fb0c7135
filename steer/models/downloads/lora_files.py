"""LoRAs by name: files and folders on this machine, and repositories of the hub."""

import re
from pathlib import Path

from steer.errors import SteerError
from steer.models.downloads import hub
from steer.models.downloads.files import lora_of
from steer.models.downloads.source import Source

_ON_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[^:]+\.safetensors))?")


def locate(name: str) -> Path:
    """Return a LoRA on this machine; one of the hub is fetched if it is not in the cache.

    Args:
        name: a ``.safetensors`` file, a folder, or ``ORG/NAME[@REVISION][/FILE]`` of the hub.

    Raises:
        SteerError: if there is no such LoRA, it cannot be fetched, or its repository has several files and none is
            named.
    """
    path = Source(name).path
    if path is not None:
        return path
    if "://" in name:
        shown = name.partition("?")[0]  # what follows may hold a key
        raise SteerError(f"lora {shown!r} is a URL; fetch the file and name it, or give a hub id like org/name")
    parts = on_hub(name)
    if parts is None:
        raise SteerError(
            f"lora {name!r} does not exist; expected a .safetensors file, a folder or a hub id like org/name"
        )
    repo, revision, file = parts
    kept = hub.cached_files(repo, revision)
    found = file or lora_of(list(kept))
    if found in kept:
        return kept[found]
    if not hub.reachable():
        raise SteerError(
            f"lora {name!r} is not in the hub's cache, and the hub cannot be reached: run `steer download {name}` on a "
            "machine that can, or copy its file here and name that"
        )
    if file is None:
        file = _only(name, [listed for listed, _ in hub.all_files(repo, revision)])
    return hub.fetch(repo, file, revision)


def on_hub(name: str) -> tuple[str, str | None, str | None] | None:
    """Return repository, revision and file of ``ORG/NAME[@REVISION][/FILE]``; ``None`` for any other name."""
    match = None if Source(name).like_a_path else _ON_HUB.fullmatch(name)
    return None if match is None else (match["repo"], match["revision"], match["file"])


def _only(name: str, files: list[str]) -> str:
    found = lora_of(files)
    if found is not None:
        return found
    safe = [file for file in files if file.endswith(".safetensors")]
    if not safe:
        raise SteerError(f"lora {name!r} holds no .safetensors file, and pickles are not read: they could run code")
    listed = ", ".join(safe[:4]) + (" …" if len(safe) > 4 else "")
    raise SteerError(f"lora {name!r} has {len(safe)} files ({listed}); name one: {name}/FILE")
