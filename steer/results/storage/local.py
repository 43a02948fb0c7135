"""Folders of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from steer.errors import SteerError
from steer.results.storage.base import Storage

LOCK = ".lock"
TEMPORARY = ".part"
"""Suffix of files in the making."""
_TEMPORARY_NAME = re.compile(r"(^|/)\.[^/]*\.([a-z0-9_]{8}|[0-9a-f]{32})\.part$")
"""What :func:`write_atomic` calls them, and earlier versions did."""


class LocalStorage(Storage):
    """A folder. It is made with its first file, so that an earlier error leaves nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()  # a plugin may leave the working directory
        self.name = str(folder)
        self._made: set[Path] = set()
        self._logs: dict[str, int] = {}

    def check(self) -> None:
        try:
            existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            if not existing.is_dir():
                raise SteerError(
                    f"output folder {self.name} cannot be made: {existing} is a file; choose another --out"
                )
            # permission bits say nothing to root and on read-only or virtual file systems: try
            tempfile.TemporaryDirectory(dir=existing, prefix=".steer-").cleanup()
        except (OSError, ValueError) as error:
            raise self.unwritable(error) from None

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        try:
            self._make(path.parent)
            write_atomic(path, data)
        except OSError as error:
            raise self.unwritable(error) from error

    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SteerError(f"{self.url(name)} cannot be read ({error.strerror})") from None

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def sizes(self, folder: str = "") -> dict[str, int]:
        def tell(error: OSError) -> None:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                raise SteerError(f"folder {error.filename} cannot be read ({error.strerror})") from None

        found: dict[str, int] = {}
        for place, _, names in os.walk(self.folder / folder, onerror=tell):
            for path in (Path(place, name) for name in names):
                # a file in the making may have been moved since it was listed, and a link may lead nowhere
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        found[path.relative_to(self.folder).as_posix()] = status.st_size
        return found

    def append(self, log: str, lines: bytes) -> None:
        try:
            if log not in self._logs:
                self._logs[log] = self._open(log)
            handle = self._logs[log]
            size = os.fstat(handle).st_size
            try:
                written = 0
                while written < len(lines):
                    written += os.write(handle, lines[written:])
            except OSError:
                os.ftruncate(handle, size)  # no half line
                raise
        except OSError as error:
            raise self.unwritable(error) from error

    def check_log(self, log: str) -> None:
        path = self.folder / log
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise SteerError(f"{self.url(log)} is a link or a device; remove it, or choose another --out")

    def _open(self, log: str) -> int:
        self.check_log(log)
        path = self.folder / log
        self._make(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        os.ftruncate(handle, _whole(path))
        return handle

    def lines(self, log: str) -> Iterator[bytes]:
        try:
            with (self.folder / log).open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line
        except FileNotFoundError:
            return
        except OSError as error:
            raise SteerError(f"{self.url(log)} cannot be read ({error.strerror})") from None

    def sync(self) -> None:
        try:
            for handle in self._logs.values():
                os.fsync(handle)
        except OSError as error:
            raise self.unwritable(error) from error

    def close(self) -> None:
        try:
            self.sync()
        finally:
            for handle in self._logs.values():
                os.close(handle)
            self._logs.clear()

    @contextmanager
    def lock(self, file: str = "") -> Iterator[None]:
        name = f".{file}{LOCK}" if file else LOCK
        # the system releases it whenever the process ends
        try:
            fresh = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
            self._make(self.folder)
            lock = filelock.FileLock(self.folder / name)
            lock.acquire(blocking=False)
        except filelock.Timeout:
            owner = (self.read(f"{name}-owner") or b"another process").decode(errors="replace")
            raise self.in_use(owner, file) from None
        except OSError as error:
            raise self.unwritable(error) from None
        try:
            for left in () if file else self.sizes():  # by a process that was killed while it wrote
                if _TEMPORARY_NAME.search(left):
                    self.remove(left)
            self.write(f"{name}-owner", f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            self.remove(f"{name}-owner")
            with contextlib.suppress(OSError):
                self.remove(name)  # while it is held: whoever opened it meanwhile finds that it is gone
            lock.release()
            with contextlib.suppress(OSError):  # an error leaves nothing
                for folder in fresh:
                    folder.rmdir()
                    self._made.discard(folder)

    def at(self, folder: str) -> LocalStorage:
        place = LocalStorage(self.folder / folder)
        place.name = str(Path(self.name) / folder)
        return place

    def free_bytes(self) -> int | None:
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return shutil.disk_usage(existing).free

    def _make(self, folder: Path) -> None:
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, durably."""
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _whole(path: Path) -> int:
    """Return the length of a log up to the end of its last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
