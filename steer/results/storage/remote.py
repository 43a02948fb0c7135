"""Places that fsspec reaches: object stores, file servers, memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steer.errors import SteerError, message_of
from steer.results.storage.base import Storage, StorageError

LOCK = "lock.json"
WHOLE_PUTS = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "oci", "hf"}
"""Protocols under which a file appears when it is complete; elsewhere it is moved into place."""

SEGMENT_BYTES, SEGMENT_SECONDS = 1_000_000, 5.0
"""A log is written in segments, for objects cannot be appended to."""

BEAT_SECONDS, STALE_SECONDS = 20.0, 90.0
"""How often the holder of a lock says that it lives, and when it is taken for dead."""

SETTLE_SECONDS = 1.0
"""How long after taking a lock it is looked at again: of two that found it free, the one that wrote last has it."""

TICK_SECONDS = 2.0
"""How often it looks for something to do."""


class RemoteStorage(Storage):
    """A folder of a file system of fsspec's."""

    def __init__(self, system: Any, root: str, name: str) -> None:
        """Args: system: the file system; root: the folder on it; name: the URL as given."""
        self._system, self._root, self.name = system, root.rstrip("/"), name
        protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
        self._whole_puts = bool(protocols & WHOLE_PUTS)
        self._logs = threading.RLock()  # the thread that holds the lock writes old lines too
        self._waiting: dict[str, list[bytes]] = {}
        self._last: dict[str, int] = {}
        self._written = time.monotonic()
        self._token: str | None = None  # of the lock, while it is held
        self._seen = 0.0
        self._lost = ""

    def check(self) -> None:
        name = f".steer-{uuid.uuid4().hex}"
        self.write(name, b"")
        self.remove(name)

    def write(self, name: str, data: bytes) -> None:
        if self._token and name != LOCK and time.time() - self._seen > STALE_SECONDS:
            try:
                self._confirm()
            except SteerError as error:
                raise self.unwritable(error) from error
        if self._lost:
            raise StorageError(self._lost)
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
        except Exception as error:  # each file system raises what its client library does
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

    def sizes(self, folder: str = "") -> dict[str, int]:
        try:
            self._system.invalidate_cache()
            found = self._system.find(self._path(folder).rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # each file system raises what its client library does
            raise SteerError(f"{self.name} cannot be read ({message_of(error)})") from error
        root = self._system._strip_protocol(self._root)
        return {path.removeprefix(f"{root}/"): info["size"] for path, info in found.items()}

    def append(self, log: str, lines: bytes) -> None:
        with self._logs:
            self._waiting.setdefault(log, []).append(lines)
            if sum(map(len, self._waiting[log])) >= SEGMENT_BYTES:
                self.sync()
            self._sync_old()

    def lines(self, log: str) -> Iterator[bytes]:
        for name in (log, *self._segments(log)):
            data = self.read(name)
            for line in (data or b"").splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield line

    def sync(self) -> None:
        with self._logs:
            for log, parts in self._waiting.items():
                if parts:
                    if log not in self._last:  # asked once: listing a large folder takes long
                        numbers = (int(name.rpartition(".")[2]) for name in self._segments(log))
                        self._last[log] = max(numbers, default=0)
                    self.write(f"{log}.{self._last[log] + 1:06d}", b"".join(parts))
                    self._last[log] += 1
                    parts.clear()
            self._written = time.monotonic()

    def _sync_old(self) -> None:
        """Write lines that wait for longer than they should, whether or not others follow them."""
        with self._logs:
            if time.monotonic() - self._written >= SEGMENT_SECONDS:
                self.sync()

    def close(self) -> None:
        with self._logs:
            if self._lost:  # the logs are another's, who writes them
                self._waiting.clear()
                self._last.clear()
                return
            self.sync()
            for log in self._waiting:
                segments = self._segments(log)
                if segments:
                    # a death in between leaves lines twice, which says nothing new
                    self.write(log, b"".join(self.lines(log)))
                    for name in segments:
                        self.remove(name)
            self._waiting.clear()
            self._last.clear()

    @contextmanager
    def lock(self) -> Iterator[None]:
        held = self._holder()
        if held is not None:
            raise self.in_use(held)
        self._lost, token = "", uuid.uuid4().hex
        self._beat(token)
        time.sleep(SETTLE_SECONDS)
        if self._read_lock().get("token") != token:
            raise self.in_use("another process that began at the same time")
        self._token, self._seen = token, time.time()
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(TICK_SECONDS):
                with contextlib.suppress(SteerError):  # the next write of an image will tell
                    if time.time() - self._seen >= BEAT_SECONDS:  # by the clock that a machine's sleep does not stop
                        self._confirm()
                        if self._lost:
                            return
                        self._beat(token)
                    self._sync_old()

        thread = threading.Thread(target=beat, daemon=True, name="steer-lock")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._token = None
            with contextlib.suppress(SteerError):  # a lock that stays goes stale
                if not self._lost and self._read_lock().get("token") == token:
                    self.remove(LOCK)

    def at(self, folder: str) -> RemoteStorage:
        return RemoteStorage(self._system, self._path(folder), self.url(folder) if folder else self.name)

    def _holder(self) -> str | None:
        """Return who holds the lock, if anybody who lives."""
        lock = self._read_lock()
        if not lock:
            return None
        if lock.get("host") == socket.gethostname():
            dead = not _lives(lock.get("process"))
        else:
            dead = time.time() - float(lock.get("time", 0)) > STALE_SECONDS
        return None if dead else f"process {lock.get('process')} on {lock.get('host')}"

    def _confirm(self) -> None:
        """Take note of whether the lock is still ours, which a machine that slept for long is not told."""
        if self._read_lock().get("token", self._token) != self._token:
            self._lost = f"output folder {self.name} was taken over by {self._holder() or 'another'}"
        else:
            self._seen = time.time()

    def _read_lock(self) -> dict[str, Any]:
        try:
            lock = json.loads(self.read(LOCK) or b"{}")
        except ValueError:
            return {}
        return lock if isinstance(lock, dict) else {}

    def _beat(self, token: str) -> None:
        data = {"process": os.getpid(), "host": socket.gethostname(), "time": time.time(), "token": token}
        self.write(LOCK, json.dumps(data).encode())

    def _segments(self, log: str) -> list[str]:
        folder = log.rpartition("/")[0]
        return sorted(name for name in self.sizes(folder) if name.startswith(f"{log}.") and name[-6:].isdigit())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _lives(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
