"""Files fetched from the hub into its cache.

The client library keeps the cache's layout, names files and authenticates. It begins an interrupted download again
from nothing, so the bytes are fetched here: into a partial file beside the cache's blobs, which the next attempt goes
on from, and which becomes a blob only when its size and checksum are right.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import io
import logging
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

from steer.errors import SteerError

log = logging.getLogger(__name__)


class NoSuchFile(SteerError):  # noqa: N818 - a mistake of the user's, as its parent is
    """The hub has the repository, but no such file or revision in it."""


Observer = Callable[[str, int, int | None], None]
"""What is told of a download as it goes on: the file as ``org/name: file``, bytes that are here, bytes in all."""

observer: ContextVar[Observer | None] = ContextVar("observer", default=None)
"""Who is told; without one the hub's own client draws its bar."""


def fetch(
    repo: str, file: str, revision: str | None = None, sha256: str | None = None, *, into: Path | None = None
) -> Path:
    """Fetch one file into the hub's cache, or a folder, and verify it; what is there already is not fetched again.

    Args:
        repo: ``"org/name"``.
        file: its path in the repository.
        revision: branch, tag or commit.
        sha256: what it must be; by default what the hub states, if it does.
        into: a folder in place of the cache; the file gets its path in the repository there.

    Returns:
        The fetched file.

    Raises:
        NoSuchFile: if the repository does not have it.
        SteerError: if there is no such repository, it needs a login, the disk is full, the connection breaks off (what
            has come is kept), or the file is damaged (what has come is deleted).
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    name = f"{repo}: {file}"
    with _explained(name):
        url = hf_hub_url(repo, file, revision=revision)
        metadata = get_hf_file_metadata(url)
    if metadata.etag is None:
        raise SteerError(f"{name} cannot be fetched: {constants.ENDPOINT} states no checksum for it")
    if into is not None:
        target = into / _inside(file)
    else:
        target = Path(constants.HF_HUB_CACHE) / _folder_name(repo) / "blobs" / metadata.etag
    with _writable(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    if into is not None and target.exists() and _mismatch(target, metadata):
        raise SteerError(
            f"{target} is there already and is another file than {name}; move it away or choose another folder"
        )
    if not target.exists():
        _complete(target, repo, name, url, metadata)
    if sha256 is not None and _digest(target, "sha256") != sha256:
        target.unlink()
        raise SteerError(f"{name} is not the file that was published: its sha256 is not {sha256}; it was deleted")
    if into is not None:
        return target
    with _explained(name):  # finds the blob and links the snapshot to it
        return Path(hf_hub_download(repo, file, revision=revision, cache_dir=constants.HF_HUB_CACHE))


def listing(repo: str, revision: str | None = None) -> list[tuple[str, int | None]]:
    """Return the files, with sizes in bytes, that ``from_pretrained`` would read from a repository.

    Raises:
        SteerError: if there is no such repository, or it needs a login.
    """
    from huggingface_hub import HfApi

    with _explained(repo):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    return [(file, sizes[file]) for file in readable(list(sizes))]


def readable(files: Sequence[str]) -> list[str]:
    """Select what transformers and diffusers read: configurations, tokenizers, and weights in one format.

    A folder's weights are its safetensors, else its pickles; no variants (``fp16``, ``non_ema``), no single-file
    checkpoints beside a pipeline, no other frameworks.
    """
    pipeline = "model_index.json" in files
    chosen = []
    for file in files:
        path = PurePosixPath(file)
        if pipeline and len(path.parts) == 1:
            keep = file == "model_index.json"
        elif not pipeline and len(path.parts) > 1:
            keep = False
        elif path.suffix in (".safetensors", ".bin"):
            keep = _is_plain_weights(path.name) and (
                path.suffix == ".safetensors" or not any(
                    other.parent == path.parent and other.suffix == ".safetensors" and _is_plain_weights(other.name)
                    for other in map(PurePosixPath, files)
                )
            )  # fmt: skip
        else:
            keep = path.suffix in (".json", ".txt", ".model", ".jinja") and not path.name.startswith(".")
        if keep:
            chosen.append(file)
    return chosen


def _is_plain_weights(name: str) -> bool:
    stems = ("model", "pytorch_model", "diffusion_pytorch_model", "open_clip_model", "open_clip_pytorch_model")
    return any(
        fnmatch.fnmatchcase(name, f"{stem}{shard}.{suffix}")
        for stem in stems
        for shard in ("", "-*-of-*")
        for suffix in ("safetensors", "bin")
    )


def _folder_name(repo: str) -> str:
    return "models--" + repo.replace("/", "--")


def _inside(file: str) -> PurePosixPath:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise SteerError(f"the hub names a file {file!r}, which would lie outside the folder")
    return path


def _complete(target: Path, repo: str, name: str, url: str, metadata: Any) -> None:
    """Fetch what is missing of a file, verify it and put it in its place."""
    # named by the checksum too, so that a new version on the hub is never added to the beginning of an old one
    part = target.with_name(f".{target.name}.{metadata.etag[:12]}.part")
    with _one_at_a_time(repo, metadata.etag):
        if target.exists():  # another process was first
            return
        done = part.stat().st_size if part.exists() else 0
        missing = (metadata.size or 0) - done
        free = shutil.disk_usage(target.parent).free
        if missing > free:
            raise SteerError(
                f"{name} needs {missing / 1e9:.1f} GB more, but {target.parent} has {free / 1e9:.1f} GB free"
            )
        _stream(part, done, name, url, metadata)
        problem = _mismatch(part, metadata)
        if problem:
            part.unlink()
            raise SteerError(f"{name} came damaged ({problem}) and was deleted; fetch it again")
        part.replace(target)


def _stream(part: Path, done: int, name: str, url: str, metadata: Any) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    location = metadata.location or url
    headers = build_hf_headers()
    if urllib.parse.urlsplit(location).netloc != urllib.parse.urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is the hub's, not its content network's
    try:
        with _Counting(part, done, functools.partial(_tell, name, metadata.size)) as file:
            http_get(location, file, resume_size=done, headers=headers, expected_size=metadata.size,
                     displayed_filename=name)  # fmt: skip
    except Exception as error:  # of the connection, the server or the disk: a dozen classes
        log.debug("fetching %s failed", name, exc_info=True)
        here = part.stat().st_size
        total = f" of {metadata.size / 1e6:.1f}" if metadata.size else ""
        raise SteerError(
            f"{name} broke off after {here / 1e6:.1f}{total} MB ({_line(error)}); the same command goes on from there"
        ) from error


def _tell(name: str, total: int | None, here: int) -> None:
    told = observer.get()
    if told is not None:
        told(name, here, total)


class _Counting(io.FileIO):
    """A file that is appended to and tells how long it is."""

    def __init__(self, path: Path, done: int, tell: Callable[[int], None]) -> None:
        super().__init__(path, "r+b" if done else "wb")
        self.seek(done)
        self._told = tell

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        view, written = memoryview(data), 0
        while written < len(view):
            written += super().write(view[written:]) or 0
        self._told(self.tell())
        return written


def _mismatch(part: Path, metadata: Any) -> str | None:
    """Return what is wrong with a fetched file, if anything is: the hub's tag is its sha256, or git's sha1."""
    size = part.stat().st_size
    if metadata.size is not None and size != metadata.size:
        return f"{size} bytes, expected {metadata.size}"
    if len(metadata.etag) == 64:
        return None if _digest(part, "sha256") == metadata.etag else f"its sha256 is not {metadata.etag}"
    if len(metadata.etag) == 40:
        header = f"blob {size}\0".encode()
        return None if _digest(part, "sha1", header) == metadata.etag else f"its git hash is not {metadata.etag}"
    return None


def _digest(file: Path, algorithm: str, header: bytes = b"") -> str:
    digest = hashlib.new(algorithm, header, usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the client's errors into one line."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise SteerError(
            f"{what} cannot be fetched: there is no such repository, or it is gated or private: accept its terms on "
            "the hub and log in with `hf auth login`"
        ) from error
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        raise NoSuchFile(f"{what} cannot be fetched: the hub has no such file or revision") from error
    except Exception as error:  # of the connection or the server: a dozen classes
        log.debug("asking for %s failed", what, exc_info=True)
        raise SteerError(f"{what} cannot be fetched: {type(error).__name__}: {_line(error)}") from error


@contextlib.contextmanager
def _one_at_a_time(repo: str, etag: str) -> Iterator[None]:
    """Hold the lock that the hub's own clients take for this file."""
    from huggingface_hub import constants
    from huggingface_hub.utils import WeakFileLock

    folder = Path(constants.HF_HUB_CACHE) / ".locks" / _folder_name(repo)
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / f"{etag}.lock"):
        yield


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SteerError(f"{folder} cannot be written to: {error.strerror}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
