"""Places for output files: folders of this machine, and every file system that fsspec knows."""

from pathlib import Path

from steer.errors import SteerError, message_of
from steer.results.storage.base import Storage
from steer.results.storage.local import LocalStorage, write_atomic

__all__ = ["LocalStorage", "Storage", "storage_at", "write_atomic"]


def storage_at(place: str | Path) -> Storage:
    """Return the storage at a path or an fsspec URL (``s3://bucket/run``, ``memory://run``, ``file:///tmp/run``).

    Raises:
        SteerError: for a URL of an unknown protocol.
    """
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        return LocalStorage(Path(text))
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    from steer.results.storage.remote import RemoteStorage

    try:
        system, path = fsspec.core.url_to_fs(text)
    except (ValueError, ImportError, OSError) as error:
        reason = message_of(error)
        raise SteerError(f"output folder {text}: {reason}; expected a folder or a URL that fsspec knows") from None
    if isinstance(system, LocalFileSystem):
        return LocalStorage(Path(path))
    return RemoteStorage(system, path, text.rstrip("/"))
