"""Resumable, verified downloads of files.

The hub's client starts an interrupted download over. Here bytes go into a partial file beside the target. The next
attempt resumes it, and it becomes the target only when size and checksum are right.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steer.errors import SteerError, cause_of

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds until a silent server counts as dead."""


class NoSuchFile(SteerError):  # noqa: N818 - a mistake of the user's, as its parent is
    """The server has no such file."""


Observer = Callable[[str, int, int | None], None]
"""Called during a download with the file as ``org/name: file``, the bytes so far and the total."""

observer: ContextVar[Observer | None] = ContextVar("observer", default=None)
"""The present observer; without one, the hub's own client draws its bar."""


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        name: for messages.
        url: of its bytes.
        tag: changes when the file does; usable as a file name.
        size: bytes, if known.
        checksum: algorithm (``"git"`` or a name of hashlib's) and hexadecimal digest, if the server states one.
        headers: of the request.
    """

    name: str
    url: str
    tag: str
    size: int | None
    checksum: tuple[str, str] | None
    headers: Mapping[str, str] = field(default_factory=dict)


def at(url: str, name: str) -> Remote:
    """Ask a web server for a file's properties.

    Raises:
        NoSuchFile: if it does not have it.
        SteerError: if it does not answer.
    """
    request = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            headers = answer.headers
    except OSError as error:
        kind = NoSuchFile if getattr(error, "code", None) in (404, 410) else SteerError
        raise kind(f"{name} cannot be fetched from {url.partition('?')[0]}: {cause_of(error)}") from error
    length = headers.get("Content-Length")
    checksum = None
    for entry in ",".join(headers.get_all("x-goog-hash", [])).split(","):
        algorithm, _, value = entry.strip().partition("=")
        if algorithm == "md5":
            checksum = ("md5", base64.b64decode(value).hex())
    known = f"{headers.get('ETag')} {headers.get('Last-Modified')} {length}"
    tag = hashlib.blake2b(f"{url} {known}".encode(), digest_size=16).hexdigest()
    return Remote(name, url, tag, int(length) if length else None, checksum)


_closed = False


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """Fetch nothing within a block, as a dry run must not: what is not on this machine is an error."""
    global _closed
    before, _closed = _closed, True
    try:
        yield
    finally:
        _closed = before


def is_closed() -> bool:
    """Whether nothing may be fetched now."""
    return _closed


def check_open(what: str) -> None:
    """Raise if nothing may be fetched now.

    Args:
        what: would be fetched.

    Raises:
        SteerError: with the remedy.
    """
    if _closed:
        raise SteerError(
            f"{what} is not in the hub's cache, and a dry run downloads nothing; fetch it with `steer download` first"
        )


def obtain(remote: Remote, target: Path, *, lock: Path, sha256: str | None = None) -> None:
    """Fetch the missing part of a file, verify it and move it to its place; do nothing if it exists.

    Args:
        remote: the file to fetch.
        target: its local path; folders are made.
        lock: lock file against other processes that fetch the same.
        sha256: the required digest, in addition to the server's.

    Raises:
        SteerError: if the disk is full, the connection breaks off (the partial file is kept), the file is damaged (it
            is deleted), or another file is in its place.
    """
    from huggingface_hub.utils import WeakFileLock

    for folder in (target.parent, lock.parent):
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if target.exists():
            if target.name != remote.tag and _mismatch(target, remote):
                raise SteerError(f"{target} is another file than {remote.name}; move it away or choose another folder")
        else:
            # named by the tag too, so that a new version is never added to the beginning of an old one
            part = target.with_name(f".{target.name[:40]}.{remote.tag[:16]}.part")
            _stream(remote, part)
            problem = _mismatch(part, remote)
            if problem:
                part.unlink()
                raise SteerError(f"{remote.name} arrived damaged ({problem}) and was deleted; fetch it again")
            part.replace(target)
        if sha256 is not None and digest(target, "sha256") != sha256:
            target.unlink()
            raise SteerError(f"{remote.name} is not the published file: its sha256 is not {sha256}; deleted")


def digest(file: Path, algorithm: str) -> str:
    """Return a file's digest in hexadecimal; ``"git"`` is the hash by which git names it."""
    start = f"blob {file.stat().st_size}\0".encode() if algorithm == "git" else b""
    state = hashlib.new("sha1" if algorithm == "git" else algorithm, start, usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _stream(remote: Remote, part: Path) -> None:
    from huggingface_hub.file_download import http_get

    done = part.stat().st_size if part.exists() else 0
    missing = (remote.size or 0) - done
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise SteerError(
            f"{remote.name} needs {missing / 1e9:.1f} GB more, but {part.parent} has {free / 1e9:.1f} GB free"
        )
    told = observer.get()
    try:
        with _Counting(part, done, lambda here: told and told(remote.name, here, remote.size)) as file:
            http_get(
                remote.url,
                file,
                resume_size=done,
                headers=dict(remote.headers),
                expected_size=remote.size,
                displayed_filename=remote.name,
            )
    except Exception as error:  # errors of the connection, the server or the disk have many classes
        log.debug("fetching %s failed", remote.name, exc_info=True)
        here = part.stat().st_size if part.exists() else 0
        total = f" of {remote.size / 1e6:.1f}" if remote.size else ""
        raise SteerError(
            f"{remote.name} broke off after {here / 1e6:.1f}{total} MB ({cause_of(error)}); the same command resumes it"
        ) from error


class _Counting(io.FileIO):
    """A file to append to, which reports its length."""

    def __init__(self, path: Path, done: int, tell: Callable[[int], object]) -> None:
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


def _mismatch(file: Path, remote: Remote) -> str | None:
    """Return the fault of a fetched file, if any."""
    size = file.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes, expected {remote.size}"
    if remote.checksum is not None and digest(file, remote.checksum[0]) != remote.checksum[1]:
        return f"its {remote.checksum[0]} is not {remote.checksum[1]}"
    return None


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SteerError(f"{folder} cannot be written to: {error.strerror}") from error
