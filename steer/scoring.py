"""Scoring image files: which there are, what they show, what they were made for, and what is scored already.

Files come from anywhere. One that is no image, cut short or far too large is reported and the others are scored.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from steer.errors import SteerError
from steer.prompts import Prompt
from steer.recipe import PNG_KEY
from steer.rewards import RewardFunction, WeightedSum, leaves, parse_expression

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 50_000_000
"""Larger images are refused: 100 bytes of a file can ask for gigabytes."""
METADATA = "metadata.jsonl"


class ImageError(SteerError):
    """A file that cannot be scored; the others can."""


@dataclass(frozen=True)
class Picture:
    """A file's content: pixels, float ``[3, H, W]`` in [0, 1], its texts, and a hash of its bytes."""

    pixels: Tensor
    texts: Mapping[str, str]
    digest: str


@dataclass(frozen=True)
class Row:
    """An image's scores.

    Attributes:
        file: its path as found.
        prompt: what it was scored against; empty if the rewards read none.
        scores: by reward expression.
        digest: of the file's bytes, so that a file that was replaced is scored again.
        options: plugin options that the scores depend on.
        metadata: of the prompt: some rewards take their questions from it.
    """

    file: str
    prompt: str
    scores: dict[str, float]
    digest: str
    options: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def fits(self, picture: Picture, prompt: Prompt, rewards: Iterable[str], options: Mapping[str, Any]) -> bool:
        """Whether these are the scores that are asked for."""
        asked = picture.digest, prompt, _plain(options), _plain(prompt.metadata)
        return (self.digest, self.prompt, self.options, self.metadata) == asked and set(rewards) <= set(self.scores)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return files as named and, sorted, the images of folders and their subfolders; each once.

    Raises:
        SteerError: for a path that does not exist, or if there is no image at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()))
        elif path.exists():
            found[path] = None
        else:
            raise SteerError(f"image {path} does not exist")
    if not found:
        raise SteerError(f"found no image; expected files or folders with {', '.join(SUFFIXES)}")
    return list(found)


def read_image(path: Path) -> Picture:
    """Read an image, whatever its suffix says; transparent parts become white.

    Raises:
        ImageError: if it is none, is damaged, or has more than ``MAX_PIXELS``.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"image {path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            image.load()
            texts = {k: str(v) for k, v in getattr(image, "text", {}).items()}
            pixels = _pixels(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    # decoders of hostile files raise what they like; none of it may stop the other images
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text names a buffer of ours
        reason = "not a PNG, JPEG or WebP" if unknown else " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageError(f"image {path} cannot be read: {reason}") from None
    return Picture(pixels, texts, hashlib.blake2b(data, digest_size=8).hexdigest())


def _pixels(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        grey = torch.from_numpy(np.asarray(image, dtype=np.float32) / 65535).clamp(0, 1)
        return grey.expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(255)


def read_metadata(path: Path) -> dict[Path, Prompt]:
    """Read prompts by image from JSON lines with ``file_name`` and ``prompt`` or ``text`` (imagefolder form).

    Raises:
        SteerError: naming the line that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SteerError(f"metadata file {path} cannot be read: {error}") from None
    prompts = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row.get("prompt", row.get("text"))
            if not (isinstance(name, str) and isinstance(text, str)):
                raise TypeError
            text.encode()  # JSON can spell characters that are none
            image = (path.parent / name).resolve()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise SteerError(
                f'metadata file {path}, line {number}: expected {{"file_name": "0.png", "prompt": "a red circle"}}'
            ) from None
        rest = {k: v for k, v in row.items() if k not in ("file_name", "prompt", "text", "id", "category")}
        category = row.get("category")
        prompts[image] = Prompt(
            text, id=str(row["id"]) if row.get("id") is not None else None,
            category=None if category is None else str(category), metadata=rest,
        )  # fmt: skip
    return prompts


@dataclass
class PromptSource:
    """Where the prompts of images come from: one for all, a metadata file, one beside an image, or the PNG itself."""

    prompt: str | None = None
    metadata: Path | None = None
    needed: bool = True

    def __post_init__(self) -> None:
        """Read the metadata file, if one was named."""
        self._beside: dict[Path, dict[Path, Prompt]] = {}
        self._named = read_metadata(self.metadata) if self.metadata is not None else None

    def of(self, path: Path, texts: Mapping[str, str]) -> Prompt:
        """Return an image's prompt.

        Raises:
            SteerError: if it has none and a reward needs one; names the image.
        """
        if self.prompt is not None:
            return Prompt(self.prompt)
        found = self._listed(path) or prompt_from_texts(texts)
        if found is not None:
            return found
        if not self.needed:
            return Prompt("")
        where = f" in {self.metadata}" if self.metadata is not None else ""
        raise SteerError(
            f"image {path} has no prompt{where}; give --prompt TEXT for all, or --metadata FILE with lines such as "
            f'{{"file_name": "{path.name}", "prompt": "…"}}'
        )

    def _listed(self, path: Path) -> Prompt | None:
        if self._named is not None:
            return self._named.get(path.resolve())
        folder = path.resolve().parent
        if folder not in self._beside:
            file = folder / METADATA
            self._beside[folder] = read_metadata(file) if file.is_file() else {}
        return self._beside[folder].get(path.resolve())


def prompt_from_texts(texts: Mapping[str, str]) -> Prompt | None:
    """Return the prompt from a PNG's steer recipe or ``parameters`` text; ``None`` if it carries neither."""
    try:
        prompt = json.loads(texts[PNG_KEY])["prompt"]
        str(prompt["text"]).encode()  # JSON can spell characters that are none
        metadata = prompt.get("metadata")
        category = prompt.get("category")
        return Prompt(
            str(prompt["text"]), id=str(prompt["id"]), category=None if category is None else str(category),
            metadata=metadata if isinstance(metadata, dict) else {},
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        pass  # made by another tool, or changed by hand
    lines = []
    for line in texts.get("parameters", "").splitlines():
        if line.startswith(("Negative prompt:", "Steps:")):
            break
        lines.append(line)
    text = "\n".join(lines).strip()
    return Prompt(text) if text else None


def needs_prompt(reward: RewardFunction) -> bool:
    """Whether a reward, or a part of it, reads the prompt."""
    parts = getattr(reward, "parts", None)
    return any(map(needs_prompt, parts)) if parts else bool(getattr(reward, "needs_prompt", True))


def score_images(
    paths: Sequence[Path],
    rewards: Mapping[str, WeightedSum],
    prompts: PromptSource,
    *,
    batch: int = 16,
    device: torch.device | str = "cpu",
    done: Mapping[str, Row] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Row | ImageError]:
    """Score images batch by batch; images of one size share a batch.

    Args:
        paths: the files.
        rewards: by expression; each is reported on its own.
        prompts: where prompts come from.
        batch: images a call.
        device: where the rewards compute.
        done: known rows by file; those that still fit are yielded as they are.
        options: plugin options, kept with the scores.

    Yields:
        One row a file, in the order in which batches fill, or the error of a file that cannot be scored.

    Raises:
        SteerError: for an image without a prompt, or a reward that fails.
    """
    known, wanted = done or {}, _plain(options or {})
    waiting: dict[tuple[int, ...], list[tuple[Path, Picture, Prompt]]] = {}

    def flush(rows: list[tuple[Path, Picture, Prompt]]) -> Iterator[Row]:
        samples = torch.stack([picture.pixels for _, picture, _ in rows]).to(device)
        with torch.no_grad():
            scores = {name: reward(samples, [p for _, _, p in rows]).tolist() for name, reward in rewards.items()}
        for i, (path, picture, prompt) in enumerate(rows):
            mine = {name: values[i] for name, values in scores.items()}
            yield Row(str(path), str(prompt), mine, picture.digest, wanted, _plain(prompt.metadata))

    for path in paths:
        try:
            picture = read_image(path)
        except ImageError as error:
            yield error
            continue
        prompt = prompts.of(path, picture.texts)
        old = known.get(str(path))
        if old is not None and old.fits(picture, prompt, rewards, wanted):
            yield old
            continue
        group = waiting.setdefault(tuple(picture.pixels.shape), [])
        group.append((path, picture, prompt))
        if len(group) == batch:
            yield from flush(waiting.pop(tuple(picture.pixels.shape)))
    for group in waiting.values():
        yield from flush(group)


def read_rows(path: Path) -> dict[str, Row]:
    """Read the rows of an earlier run by file; a last line that was cut short is left out.

    Raises:
        SteerError: if the file holds something else, so that it is not overwritten.
    """
    if not path.exists():
        return {}
    rows: dict[str, Row] = {}
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SteerError(f"--out {path} cannot be read: {error}") from None
    for number, line in enumerate([*lines, last], 1):
        try:
            row = Row(**json.loads(line))
            if not all(math.isfinite(score) for score in row.scores.values()):
                raise ValueError
            rows[row.file] = row
        except (ValueError, TypeError, AttributeError, RecursionError):
            if number <= len(lines):
                raise SteerError(
                    f"--out {path}, line {number}: not a line of scores; expected a file that steer score wrote, "
                    "choose another --out"
                ) from None
    return rows


def open_rows(path: Path) -> TextIO:
    """Open a file of rows to append to, after dropping a last line that was cut short.

    Raises:
        SteerError: if it cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                with path.open("r+b") as file:
                    file.truncate(data.rfind(b"\n") + 1)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise SteerError(f"--out {path} cannot be written to ({error.strerror}); choose another") from None


def write_row(file: TextIO, row: Row) -> None:
    """Append a row and hand it to the system at once: what is scored survives a kill."""
    file.write(json.dumps(asdict(row), ensure_ascii=True) + "\n")
    file.flush()


def expressions_of(rewards: Sequence[str]) -> list[str]:
    """Return expressions, each once, after checking that they can be read.

    Raises:
        SteerError: for an expression that cannot.
    """
    for text in rewards:
        list(leaves(parse_expression(text)))
    return list(dict.fromkeys(rewards))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(options, default=str, sort_keys=True))
    return plain
