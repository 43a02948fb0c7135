"""Output folders: images with their recipes, traces, a contact sheet and ``result.json``. Whole files or none."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from steer.cost import Cost
from steer.errors import SteerError
from steer.sheet import contact_sheet
from steer.trace import plot

if TYPE_CHECKING:
    from steer.api import Item


class OutputFolder:
    """A folder that is filled item by item, so that what is finished is never lost."""

    def __init__(self, folder: Path) -> None:
        """Check that the folder can be written to; it is made with the first file, so that an error leaves nothing.

        Raises:
            SteerError: if it cannot.
        """
        self.folder = folder
        self._rows: list[dict[str, Any]] = []
        self._cells: list[tuple[Any, str, str]] = []
        try:
            existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            if not existing.is_dir():
                raise SteerError(f"output folder {folder} cannot be made: {existing} is a file; choose another --out")
            # permission bits say nothing to root and on read-only or virtual file systems: try
            tempfile.TemporaryDirectory(dir=existing, prefix=".steer-").cleanup()
        except (OSError, ValueError) as error:
            raise _unwritable(folder, error) from None

    def write(self, item: Item) -> list[Path]:
        """Write one prompt's chosen images, its trace and the trace's plot; return the images' paths."""
        try:
            return self._write(item)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _write(self, item: Item) -> list[Path]:
        stem = file_stem(item.prompt.id)
        (self.folder / "traces").mkdir(parents=True, exist_ok=True)
        paths = []
        for index in item.chosen:
            sample = item.samples[index]
            buffer = BytesIO()
            sample.image.save(buffer, format="PNG", pnginfo=item.recipe.png_info(sample.slot))
            path = self.folder / f"{stem}-{sample.slot:03d}.png"
            write_atomic(path, buffer.getvalue())
            paths.append(path)
            score = "" if sample.reward is None else f"{sample.reward:.3f}"
            self._cells.append((sample.image, str(item.prompt), score))
        traces = self.folder / "traces"
        write_atomic(traces / f"{stem}.json", _json(item.trace))
        if item.trace["events"]:
            write_atomic(traces / f"{stem}.png", plot(item.trace))
        self._rows.append(_row(item, paths))
        return paths

    def write_picture(self, name: str, picture: Image.Image) -> Path:
        """Write a picture that is no sample, such as a comparison sheet."""
        buffer = BytesIO()
        picture.save(buffer, format="PNG")
        path = self.folder / name
        try:
            write_atomic(path, buffer.getvalue())
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return path

    def finish(self, cost: Cost, **more: Any) -> dict[str, Any]:
        """Write the contact sheet and ``result.json``; return what the latter holds."""
        data: dict[str, Any] = {"schema": 1, "items": self._rows, "cost": cost.as_dict(), **more}
        if self._cells:
            self.write_picture("sheet.png", contact_sheet(self._cells))
        try:
            write_atomic(self.folder / "result.json", _json(data))
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return data


def file_stem(prompt_id: str) -> str:
    """Return a file name for a prompt id. Ids come from files of others: whatever is no plain name is hashed."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", prompt_id):
        return prompt_id
    digest = hashlib.blake2b(prompt_id.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", prompt_id)[:40].strip("-")
    return f"{plain}-{digest}" if plain else digest


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _unwritable(folder: Path, error: Exception) -> SteerError:
    reason = getattr(error, "strerror", None) or str(error)
    return SteerError(f"output folder {folder} cannot be written to ({reason}); choose another --out")


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _row(item: Item, paths: list[Path]) -> dict[str, Any]:
    return {
        "id": item.prompt.id,
        "prompt": str(item.prompt),
        "category": item.prompt.category,
        "seed": item.seed,
        "files": [path.name for path in paths],
        "reward": item.reward,
        "mean_reward": item.mean_reward,
        "judge": dict(item.judge),
        "particles": [
            {
                "slot": s.slot,
                "reward": s.reward,
                "judge": dict(s.judge),
                "log_weight": s.log_weight,
                "chosen": i in item.chosen,
            }
            for i, s in enumerate(item.samples)
        ],
        "log_z": item.trace["log_z"],
        "unique_ancestors": item.trace["unique_ancestors"],
        "recipe": item.recipe.as_dict(),
    }


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n").encode("utf-8", "surrogatepass")
