"""Answers of judges that are kept: one file each, by a hash of everything that was asked."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steer import SteerError
from steer.plugin import json_text, storage_at


def usual_folder() -> str:
    """Return the folder of answers in the hub's cache."""
    from huggingface_hub import constants

    return str(Path(constants.HF_ASSETS_CACHE) / "steer" / "answers")


class Answers:
    """A folder, or an fsspec URL, of answers; writing is atomic, so that many processes may share it."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._storage = storage_at(place)

    def get(self, key: str) -> Any:
        """Return a kept answer, or ``None``; a damaged file counts as none.

        Raises:
            SteerError: if the place cannot be read.
        """
        with _named():
            data = self._storage.read(_name(key))
        try:
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError):
            return None

    def keep(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer.

        Raises:
            SteerError: if it cannot be written.
        """
        with _named():
            self._storage.write(_name(key), json_text(answer, readable=True).encode())


@contextmanager
def _named() -> Iterator[None]:
    """Say in an error what the place is for."""
    try:
        yield
    except SteerError as error:
        raise SteerError(f"the cache of answers: {error}; choose another by the option cache, or none") from None


def key_of(asked: dict[str, Any], pixels: bytes) -> str:
    """Return the key of a request: a hash of all its fields and of the image's pixels."""
    digest = hashlib.blake2b(json_text(asked, sort_keys=True, compact=True).encode(), digest_size=16)
    digest.update(b"\0" + pixels)
    return digest.hexdigest()


def _name(key: str) -> str:
    return f"{key[:2]}/{key}.json"
