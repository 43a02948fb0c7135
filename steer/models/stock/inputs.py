"""Inputs of a pipeline's call: files, numbers and flags of a prompt's row, checked and made into arguments."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from steer.errors import SteerError, unknown
from steer.models.media import mp4
from steer.models.stock.signature import FILES, Argument
from steer.prompts.pictures.opening import opened_image
from steer.prompts.prompt import Prompt

MOST_BYTES = 500_000_000
"""Size of the largest file that is read."""
MOST_PIXELS = 500_000_000
"""Pixels of all frames of a video that a call gets: 1.5 GB."""
FILE, DIGEST = "file", "sha256"
"""Keys of a file in a prompt's metadata."""
NUMBERS = {"flag": (bool,), "number": (int, float), "whole": (int,), "text": (str,)}


def with_inputs(
    prompts: Iterable[Prompt], taken: Mapping[str, Argument], given: Mapping[str, Any], pipeline: str
) -> list[Prompt]:
    """Return prompts whose metadata hold the inputs of a pipeline's call, checked; files with their SHA-256.

    Args:
        prompts: the prompts; an input of a prompt's own takes precedence. Files are relative to its folder.
        taken: what the pipeline's call takes.
        given: inputs for all prompts; texts as typed, or objects in memory.
        pipeline: its class, for messages.

    Raises:
        SteerError: for an input that the pipeline does not take, or a value or file that cannot be used.
    """
    for name in given:
        if name not in taken:
            if not taken:
                raise SteerError(f"{pipeline} takes no inputs besides the text; drop --input {name}")
            raise unknown(f"input of {pipeline}", name, taken)
    common = {name: checked(taken[name], value, None) for name, value in given.items()}
    return [_with_own(prompt, taken, common) for prompt in prompts]


def _with_own(prompt: Prompt, taken: Mapping[str, Argument], common: Mapping[str, Any]) -> Prompt:
    own = {name: prompt.metadata[name] for name in taken if name in prompt.metadata}
    if not own and not common:
        return prompt
    try:
        found = {name: checked(taken[name], value, prompt.folder) for name, value in own.items()}
    except SteerError as error:
        raise SteerError(f"prompt {str(prompt)[:60]!r}: {error}") from None
    return prompt.having(metadata={**prompt.metadata, **common, **found})


def checked(argument: Argument, value: Any, folder: str | None) -> Any:
    """Return an input's value for a prompt's metadata.

    Args:
        argument: what it is for.
        value: as it was typed, or stands in a row.
        folder: files are relative to it; ``None`` for the working directory.

    Raises:
        SteerError: for a value of another kind, or a file that cannot be used.
    """
    if isinstance(value, str) and argument.kind not in FILES:
        value = _parsed(argument, value)
    if isinstance(value, list | tuple):
        if not argument.many:
            raise _unfit(argument, value)
        return [_one(argument, part, folder) for part in value]
    return _one(argument, value, folder)


def _one(argument: Argument, value: Any, folder: str | None) -> Any:
    if isinstance(value, list | tuple) and argument.many:  # boxes: a list of lists
        return [_one(argument, part, folder) for part in value]
    if argument.kind in FILES:
        return _file(argument, value, folder)
    if not isinstance(value, NUMBERS[argument.kind]) or (isinstance(value, bool) and argument.kind != "flag"):
        raise _unfit(argument, value)
    return value


def _parsed(argument: Argument, text: str) -> Any:
    """Return a typed value: JSON, or the text itself where texts are taken."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if argument.kind == "text":
        return value if isinstance(value, list) and argument.many else text
    return value


def _unfit(argument: Argument, value: Any) -> SteerError:
    return SteerError(f"{argument.name}: got {repr(value)[:60]}, expected {argument.expected}")


# ---- files -------------------------------------------------------------------------------------------------------


def _file(argument: Argument, value: Any, folder: str | None) -> Any:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Mapping) and isinstance(value.get(FILE), str) and isinstance(value.get(DIGEST), str):
        read_file(argument, value)
        return dict(value)
    if not isinstance(value, str | Path) or not str(value):
        raise _unfit(argument, value)
    path = Path(folder or ".", Path(value).expanduser()).absolute()
    stored = {FILE: str(path), DIGEST: hashlib.sha256(_bytes(argument.name, path)).hexdigest()}
    read_file(argument, stored)
    return stored


def _bytes(name: str, path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise SteerError(f"{name}: the file {path} {what}; files are relative to the prompt file")
        if path.stat().st_size > MOST_BYTES:
            raise SteerError(f"{name}: the file {path} has more than {MOST_BYTES // 1_000_000} MB")
        return path.read_bytes()
    except OSError as error:
        raise SteerError(f"{name}: the file {path} cannot be read: {error.strerror or error}") from None


def read_file(argument: Argument, stored: Mapping[str, str]) -> Any:
    """Return what the call gets for a file of a prompt's metadata: an image, or the frames of a video as images.

    Args:
        argument: what it is for.
        stored: its file and its SHA-256.

    Raises:
        SteerError: if the file is not there, is another one, or cannot be used.
    """
    name, path, digest = argument.name, Path(stored[FILE]), stored[DIGEST]
    if not path.is_file():
        raise SteerError(
            f"{name}: the file {path} (SHA-256 {digest[:10]}…) is not here; put it there, or name its present place by "
            f"--input {name}=FILE"
        )
    mode, of = "L" if "mask" in name else "RGB", (name, str(path), digest, path.stat().st_mtime_ns)
    if argument.kind == "video":
        return [frame.convert(mode) for frame in _frames(*of)]
    return _opened(*of).convert(mode)


@functools.lru_cache(maxsize=32)  # a population's calls take the same image
def _opened(name: str, path: str, digest: str, changed: int) -> Image.Image:
    with opened_image(_same_bytes(name, path, digest), f"{name}: image {path}") as image:
        image.load()
        return pixels(ImageOps.exif_transpose(image))


@functools.lru_cache(maxsize=1)
def _frames(name: str, path: str, digest: str, changed: int) -> tuple[Image.Image, ...]:
    frames, left = [], MOST_PIXELS
    try:
        for frame in mp4.frames(_same_bytes(name, path, digest)):
            left -= frame.shape[0] * frame.shape[1]
            if left < 0:
                raise SteerError(f"it has more than {MOST_PIXELS:,} pixels in all frames, which a call gets together")
            frames.append(Image.fromarray(frame))
    except SteerError as error:
        raise SteerError(f"{name}: {path}: {error}") from None
    return tuple(frames)


def _same_bytes(name: str, path: str, digest: str) -> bytes:
    """Return a file's content, whose SHA-256 must be as given."""
    data = _bytes(name, Path(path))
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise SteerError(
            f"{name}: the content of {path} has changed: SHA-256 {found[:10]}…, expected {digest[:10]}…; bring the old "
            f"one back, or name its present place by --input {name}=FILE"
        )
    return data


def pixels(image: Image.Image) -> Image.Image:
    """Return an image in 8 bits per channel, transparent parts white."""
    if image.mode.startswith("I"):  # 16 bits, which convert() would cut off at 255
        return Image.fromarray((np.asarray(image, dtype=np.float32) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image


def argument_of(argument: Argument, value: Any) -> Any:
    """Return the call's argument for an input in a prompt's metadata, files read."""
    if isinstance(value, list):
        return [argument_of(argument, part) for part in value]
    if argument.kind in FILES and isinstance(value, Mapping):
        return read_file(argument, value)
    return value


def recorded(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return metadata as plain data for a recipe, and whether they suffice: an image in memory is a hash there."""

    def plain(value: Any) -> Any:
        if isinstance(value, Image.Image):
            return {DIGEST: hashlib.sha256(value.mode.encode() + value.tobytes()).hexdigest()}
        return [plain(part) for part in value] if isinstance(value, list) else value

    found = {name: plain(value) for name, value in metadata.items()}
    return found, not any(_in_memory(value) for value in metadata.values())


def replaced_inputs(prompt: Prompt, places: Mapping[str, Any]) -> Prompt:
    """Return a recipe's prompt whose files are read from other places; their content must be the same.

    Args:
        prompt: of the recipe.
        places: the present place of an input's file, or of each of them, by the input's name.

    Raises:
        SteerError: for an input that is no file in the recipe, or another number of files.
    """
    metadata = dict(prompt.metadata)
    files = {name: value for name, value in metadata.items() if _files(value)}
    for name, given in places.items():
        if name not in files:
            raise unknown("input file of the recipe", name, files)
        stored, listed = _files(metadata[name]), given if isinstance(given, list) else [given]
        if len(stored) != len(listed):
            raise SteerError(f"--input {name}: got {len(listed)} files, the recipe has {len(stored)}")
        found = [{**one, FILE: str(Path(place).absolute())} for one, place in zip(stored, listed, strict=True)]
        metadata[name] = found if isinstance(metadata[name], list) else found[0]
    return prompt.having(metadata=metadata)


def _files(value: Any) -> list[dict[str, str]]:
    """Return the files that an input's value in a recipe names; none if it is something else."""
    parts = value if isinstance(value, list) else [value]
    whole = all(isinstance(part, dict) and {FILE, DIGEST} <= part.keys() for part in parts)
    return parts if whole else []


def _in_memory(value: Any) -> bool:
    return isinstance(value, Image.Image) or (isinstance(value, list) and any(map(_in_memory, value)))
