"""The hub: whether it can be reached, the content of its cache, and fetching files into the cache.

The client library keeps the cache's layout, names files and authenticates; :mod:`.fetching` brings the bytes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from steer.errors import SteerError, cause_of
from steer.models.downloads import fetching
from steer.models.downloads.fetching import NoSuchFile, Remote
from steer.models.downloads.files import lora_of, weights_of

log = logging.getLogger(__name__)

UNUSED = ("safety_checker",)
"""Parts of pipelines that are never loaded here."""

PATIENCE = 3.0
"""Seconds for a connection. Without a network, the hub's own client would retry for half a minute."""


@functools.cache
def reachable(url: str | None = None) -> bool:
    """Whether the hub or another server answers; checked once per process. False in offline mode."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies().keys() & {"https", "all"}:
        return True  # the proxy resolves names
    place = urllib.parse.urlsplit(constants.ENDPOINT if url is None else url)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), timeout=PATIENCE).close()
    except OSError as error:
        log.debug("%s cannot be reached: %s", place.hostname, error)
        return False
    return True


def cache_only() -> bool:
    """Whether a library that fetches by itself must be told to read its cache alone: offline, and in a dry run."""
    return fetching.is_closed() or not reachable()


def cached_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """Return a file of the hub's cache, or ``None`` if it is not cached."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, file, cache_dir=constants.HF_HUB_CACHE, revision=revision)
    except HFValidationError as error:
        raise SteerError(f"{repo!r} is not the name of a hub repository; expected ORG/NAME") from error
    return Path(found) if isinstance(found, str) else None


def cached_files(repo: str, revision: str | None = None) -> dict[str, Path]:
    """Return the ``.safetensors`` files of a repository that are in the hub's cache, by their paths in it."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(repo, revision=revision, cache_dir=constants.HF_HUB_CACHE, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return {}
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.safetensors"))}


def fetch(
    repo: str, file: str, revision: str | None = None, sha256: str | None = None, *, into: Path | None = None
) -> Path:
    """Fetch one file into the hub's cache, or a folder, and verify it; an existing file is not fetched again.

    Args:
        repo: ``"org/name"``.
        file: its path in the repository.
        revision: branch, tag or commit.
        sha256: the required digest; by default the hub's, if it states one.
        into: a folder instead of the cache; the file gets its path in the repository there.

    Returns:
        The fetched file.

    Raises:
        NoSuchFile: if the repository does not have it.
        SteerError: if there is no such repository, it needs a login, the disk is full, the connection breaks off (the
            partial file is kept), or the file is damaged (it is deleted).
    """
    from huggingface_hub import constants, hf_hub_download

    fetching.check_open(f"{repo}: {file}")
    remote = _remote(repo, file, revision)
    cache = Path(constants.HF_HUB_CACHE)
    folder = "models--" + repo.replace("/", "--")
    target = cache / folder / "blobs" / remote.tag if into is None else into / _inside(file)
    # the lock that the hub's own clients use for this file
    fetching.obtain(remote, target, lock=cache / ".locks" / folder / f"{remote.tag}.lock", sha256=sha256)
    if into is not None:
        return target
    with _explained(remote.name):  # finds the blob and links the snapshot to it
        return Path(hf_hub_download(repo, file, revision=revision, cache_dir=cache))


def _remote(repo: str, file: str, revision: str | None) -> Remote:
    """Ask the hub for a file's properties: its tag is the file's sha256, or git's hash of it."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    name = f"{repo}: {file}"
    with _explained(name):
        url = hf_hub_url(repo, file, revision=revision)
        metadata = get_hf_file_metadata(url)
    if metadata.etag is None:
        raise SteerError(f"{name} cannot be fetched: {constants.ENDPOINT} states no checksum for it")
    location = metadata.location or url
    headers = build_hf_headers()
    if urllib.parse.urlsplit(location).netloc != urllib.parse.urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is the hub's, not its content network's
    algorithm = {64: "sha256", 40: "git"}.get(len(metadata.etag))
    checksum = None if algorithm is None else (algorithm, metadata.etag)
    return Remote(name, location, metadata.etag, metadata.size, checksum, headers)


def listing(repo: str, revision: str | None = None, variant: str | None = None) -> list[tuple[str, int | None]]:
    """Return the files, with sizes in bytes, that ``from_pretrained`` would read from a repository.

    Raises:
        SteerError: if there is no such repository, or it needs a login.
    """
    sizes = dict(all_files(repo, revision))
    return [(file, sizes[file]) for file in readable(list(sizes), variant)]


def all_files(repo: str, revision: str | None = None) -> list[tuple[str, int | None]]:
    """Return all files of a repository with their sizes in bytes.

    Raises:
        SteerError: if there is no such repository, or it needs a login.
    """
    from huggingface_hub import HfApi

    fetching.check_open(repo)
    with _explained(repo):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    return [(sibling.rfilename, sibling.size) for sibling in info.siblings or ()]


def readable(files: Sequence[str], variant: str | None = None) -> list[str]:
    """Select the files that transformers and diffusers read: configurations, tokenizers, and weights in one format.

    No single-file checkpoints beside a pipeline, no other frameworks; of each folder the weights that
    :func:`.files.weights_of` chooses. Of a repository without such files, its LoRA.
    """
    pipeline = "model_index.json" in files
    paths = [PurePosixPath(file) for file in files]
    chosen = []
    for folder in dict.fromkeys(path.parent for path in paths):
        inside = [path.name for path in paths if path.parent == folder]
        top = folder == PurePosixPath()
        if pipeline and top:
            chosen.append("model_index.json")
        elif (pipeline or top) and folder.parts[:1] not in [(name,) for name in UNUSED]:
            weights = weights_of(inside, variant)
            chosen += [str(folder / name) for name in inside if name in weights or _describes(name)]
    lora = lora_of(files) if not chosen else None
    return [file for file in files if file in set(chosen)] if lora is None else [lora]


def _describes(name: str) -> bool:
    return PurePosixPath(name).suffix in (".json", ".txt", ".model", ".jinja") and not name.startswith(".")


def _inside(file: str) -> PurePosixPath:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise SteerError(f"the hub names a file {file!r}, which would lie outside the folder")
    return path


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the client's errors into one line."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError as error:
        place = f"{constants.ENDPOINT}/{what.partition(':')[0]}"
        raise SteerError(
            f"{what} cannot be fetched: it is gated: accept its terms at {place} and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SteerError(
            f"{what} cannot be fetched: there is no such repository, or it is private: check the name, or log in with "
            "`hf auth login`"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise SteerError(f"{what} cannot be fetched in offline mode: unset HF_HUB_OFFLINE") from error
    except (errors.RevisionNotFoundError, errors.RevisionResolutionError) as error:
        raise NoSuchFile(f"{what} cannot be fetched: the repository has no such revision") from error
    except errors.EntryNotFoundError as error:
        raise NoSuchFile(f"{what} cannot be fetched: the repository has no such file") from error
    except Exception as error:  # errors of the connection or the server have many classes
        log.debug("asking for %s failed", what, exc_info=True)
        raise SteerError(f"{what} cannot be fetched from {constants.ENDPOINT}: {cause_of(error)}") from error
