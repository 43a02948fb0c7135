"""``Storage``: the interface of places for output files."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import AbstractContextManager

from steer.errors import SteerError, message_of


class Storage(abc.ABC):
    """A place for output files. Files are written whole or not at all; logs grow line by line.

    Names are relative, with ``/`` between folders, which are made as needed. Several threads may call methods; only
    one at a time may write a log.

    Attributes:
        name: the place as shown to people.
    """

    name: str

    @abc.abstractmethod
    def check(self) -> None:
        """Check that files can be written, and leave nothing behind.

        Raises:
            SteerError: if they cannot.
        """

    @abc.abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            StorageError: if it cannot be written.
        """

    @abc.abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a file's content, or ``None`` if there is no such file."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""

    @abc.abstractmethod
    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of all files below a folder, by name relative to the place."""

    @abc.abstractmethod
    def append(self, log: str, lines: bytes) -> None:
        """Add whole lines to a log: all of them or, if that fails, none.

        A process that dies right after loses none of them; a machine that dies loses those since the last :meth:`sync`.

        Raises:
            StorageError: if they cannot be written.
        """

    def check_log(self, log: str) -> None:  # noqa: B027 - only folders have links
        """Check that a log, if it exists, is a file of this place; nobody else's file is written through a link.

        Raises:
            SteerError: if it is not.
        """

    @abc.abstractmethod
    def lines(self, log: str) -> Iterator[bytes]:
        """Yield a log's lines, without a last one that was cut off; none if there is no such log."""

    @abc.abstractmethod
    def sync(self) -> None:
        """Make appended lines durable."""

    @abc.abstractmethod
    def close(self) -> None:
        """Make logs durable and close them."""

    @abc.abstractmethod
    def lock(self, file: str = "") -> AbstractContextManager[None]:
        """Lock the place within the block. The lock of a process that died on this machine is free.

        Args:
            file: lock this file alone, and not the place.

        Raises:
            SteerError: if another process writes here.
        """

    @abc.abstractmethod
    def at(self, folder: str) -> Storage:
        """Return the place of a folder below this one; of this one if ``folder`` is empty."""

    def url(self, name: str) -> str:
        """Return a file's place, for messages."""
        return f"{self.name}/{name}"

    def free_bytes(self) -> int | None:
        """Return the free space in bytes, or ``None`` if it is unknown."""
        return None

    def unwritable(self, error: Exception) -> StorageError:
        """Return the error for a place that cannot be written to."""
        reason = getattr(error, "strerror", None) or message_of(error)
        return StorageError(f"output folder {self.name} cannot be written to ({reason})")

    def in_use(self, by: str, file: str = "") -> SteerError:
        """Return the error for a place, or one file in it, that another process writes to."""
        what = self.url(file) if file else f"output folder {self.name}"
        return SteerError(f"{what} is in use by {by}; wait for it to end, or choose another --out")


class StorageError(SteerError):
    """A place that cannot be written to, or no longer.

    Attributes:
        what: the fault, without its remedy.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; choose another --out")
        self.what = what
