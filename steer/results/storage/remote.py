"""Storage by fsspec: object stores, file servers, memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steer.errors import SteerError, message_of
from steer.results.storage.base import Storage
from steer.settings.strict_json import json_text

LOCK = "lock.json"
WHOLE_PUTS = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "oci", "hf"}
"""Protocols in which a file appears when it is complete; in others it is moved into place."""

BLOCK_BYTES = 256_000
"""Size of a log's blocks in bytes, about. Objects cannot be appended to, so a line is written with its block."""

SETTLE_SECONDS = 1.0
"""Seconds after claiming a place until it is checked: of two processes that found it free, the last writer has it."""


class RemoteStorage(Storage):
    """A folder of an fsspec file system."""

    def __init__(self, system: Any, root: str, name: str) -> None:
        """Args: system: the file system; root: the folder on it; name: the URL as given."""
        self._system, self._root, self.name = system, root.rstrip("/"), name
        protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
        self._whole_puts = bool(protocols & WHOLE_PUTS)
        self._blocks: dict[str, tuple[int, bytes]] = {}  # by log: the last block's number and lines

    def check(self) -> None:
        name = f".steer-{uuid.uuid4().hex}"
        self.write(name, b"")
        self.remove(name)

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self._whole_puts:
                self._system.pipe_file(path, data)
                return
            temporary = f"{path.rpartition('/')[0]}/.{uuid.uuid4().hex}.part"
            try:
                self._system.pipe_file(temporary, data)
                self._system.mv(temporary, path)
            except BaseException:
                if self._system.exists(temporary):
                    self._system.rm_file(temporary)
                raise
        except Exception as error:  # each file system raises its client library's errors
            raise self.unwritable(error) from error

    def read(self, name: str) -> bytes | None:
        try:
            data: bytes = self._system.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise SteerError(f"{self.url(name)} cannot be read ({message_of(error)})") from error
        return data

    def remove(self, name: str) -> None:
        try:
            self._system.rm_file(self._path(name))
        except FileNotFoundError:
            return
        except Exception as error:  # each file system raises its client library's errors
            raise self.unwritable(error) from error

    def sizes(self, folder: str = "") -> dict[str, int]:
        try:
            self._system.invalidate_cache()
            found = self._system.find(self._path(folder).rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # each file system raises its client library's errors
            raise SteerError(f"{self.name} cannot be read ({message_of(error)})") from error
        root = self._system._strip_protocol(self._root)
        return {path.removeprefix(f"{root}/"): info["size"] for path, info in found.items()}

    def append(self, log: str, lines: bytes) -> None:
        if log not in self._blocks:
            self._blocks[log] = max(self._numbers(log), default=0) + 1, b""
        number, block = self._blocks[log]
        block += lines
        self.write(_block(log, number), block)
        self._blocks[log] = (number, block) if len(block) < BLOCK_BYTES else (number + 1, b"")

    def lines(self, log: str) -> Iterator[bytes]:
        for name in (log, *(_block(log, number) for number in self._numbers(log))):
            data = self.read(name)
            for line in (data or b"").splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield line

    def sync(self) -> None:
        """Nothing to do: written files are durable."""

    def close(self) -> None:
        for log in self._blocks:
            # a death in between leaves lines twice, which is harmless
            self.write(log, b"".join(self.lines(log)))
            for number in self._numbers(log):
                self.remove(_block(log, number))
        self._blocks.clear()

    @contextmanager
    def lock(self, file: str = "") -> Iterator[None]:
        if file:
            raise NotImplementedError("only whole places are locked here")
        held = self._holder()
        if held is not None:
            raise self.in_use(held)
        token = uuid.uuid4().hex
        claim = {"process": os.getpid(), "host": socket.gethostname(), "time": time.time(), "token": token}
        self.write(LOCK, json_text(claim).encode())
        time.sleep(SETTLE_SECONDS)
        if self._claim().get("token") != token:
            raise self.in_use("another process that began at the same time")
        try:
            yield
        finally:
            with contextlib.suppress(SteerError):  # the next process says how to remove it
                if self._claim().get("token") == token:
                    self.remove(LOCK)

    def at(self, folder: str) -> RemoteStorage:
        return RemoteStorage(self._system, self._path(folder), self.url(folder) if folder else self.name)

    def _holder(self) -> str | None:
        """Return the process that holds the place, if any; whether a process on another machine lives is unknown."""
        claim = self._claim()
        process, host = claim.get("process"), claim.get("host")
        if not claim or (host == socket.gethostname() and not _lives(process)):
            return None
        return f"process {process} on {host} (if that has ended, remove {self.url(LOCK)})"

    def _claim(self) -> dict[str, Any]:
        try:
            claim = json.loads(self.read(LOCK) or b"{}")
        except ValueError:
            return {}
        return claim if isinstance(claim, dict) else {}

    def _numbers(self, log: str) -> list[int]:
        """Return the numbers of a log's blocks in order."""
        names = (
            name.removeprefix(f"{log}.") for name in self.sizes(log.rpartition("/")[0]) if name.startswith(f"{log}.")
        )
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _block(log: str, number: int) -> str:
    return f"{log}.{number:06d}"


def _lives(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
