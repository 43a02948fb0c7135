"""Writing files and folders whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from steer.errors import SteerError, message_of


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Report an error within the block as one of writing ``path``.

    Raises:
        SteerError: naming the path and the reason, such as a full disk.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or message_of(error)
        raise SteerError(f"{path} cannot be written ({reason}); make room, or choose another --out") from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path`` and rename, so that an interruption or a full disk leaves the old file whole.

    Only one process may write a path at a time.

    Raises:
        SteerError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)  # left by a killed run
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            with suppress(OSError):  # not every mount has modes
                temporary.chmod(mode)  # safetensors makes files that only their owner can read
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # a power cut must not leave the new name on an empty file
            temporary.replace(path)
    finally:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path`` to write into, and move it to ``path`` at the end of the block.

    An error leaves the old folder as it was. If the process is killed at the moment of the exchange, the next call
    restores the folder.

    Raises:
        SteerError: if it cannot be written.
    """
    path = path.resolve()  # for a link, the folder that it leads to
    fresh, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    with writing(path):
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            yield fresh
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        if path.exists():
            path.rename(old)
        fresh.rename(path)
        shutil.rmtree(old, ignore_errors=True)
