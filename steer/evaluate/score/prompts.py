"""What images were made for: prompts from the command, from metadata files, or from the PNG itself."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.evaluate.score.images import ImageError, read_image, read_texts
from steer.prompts.objects import parse
from steer.prompts.prompt import Prompt
from steer.prompts.reading_options import Reading
from steer.prompts.values import plain
from steer.results.names import METADATA
from steer.results.recipe import PNG_KEY
from steer.rewards.reward import RewardFunction
from steer.settings.text_files import read_text


def read_metadata(path: Path, column: str | None = None) -> dict[Path, Prompt]:
    """Read prompts by image from JSON lines with ``file_name`` and a prompt (imagefolder form).

    Args:
        path: the file.
        column: the key that holds the prompts; by default one of :data:`steer.prompts.reading_options.TEXT_KEYS`.

    Raises:
        SteerError: naming the line that cannot be read.
    """
    reading = Reading(column)
    prompts = {}
    for number, line in enumerate(read_text(path, "metadata file").split("\n"), 1):
        if line.strip():
            where = f"metadata file {path}, line {number}"
            name, prompt = _listed(parse(line, where), where, reading)
            prompts[(path.parent / name).resolve()] = prompt
    return prompts


def _listed(row: Any, where: str, reading: Reading) -> tuple[str, Prompt]:
    """Return an image's name and its prompt from a line of metadata."""
    keys = reading.text_keys(row) if isinstance(row, dict) else []
    name = row.get("file_name") if keys else None
    key = next((key for key in keys if isinstance(row[key], str)), None)
    if not isinstance(name, str) or "\0" in name or key is None:
        expected = f'{{"file_name": "0.png", "{reading.column or "prompt"}": "a red circle"}}'
        there = f"; its keys are {', '.join(row)[:200]}" if isinstance(row, dict) else ""
        raise SteerError(f"{where}: expected {expected}{there}")
    row = plain(row, where, reading)
    rest = {k: v for k, v in row.items() if k not in ("file_name", "prompt", "text", "id", "category", key)}
    return name, Prompt(row[key], id=_named(row.get("id")), category=_named(row.get("category")), metadata=rest)


@dataclass
class PromptSource:
    """Where the prompts of images come from: one for all, a metadata file, one beside an image, or the PNG itself."""

    prompt: str | None = None
    metadata: Path | None = None
    column: str | None = None
    needed: bool = True

    def __post_init__(self) -> None:
        """Read the metadata file, if one was named."""
        self._beside: dict[Path, dict[Path, Prompt]] = {}
        self._named = read_metadata(self.metadata, self.column) if self.metadata is not None else None

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
            self._beside[folder] = read_metadata(file, self.column) if file.is_file() else {}
        return self._beside[folder].get(path.resolve())


def check_prompts(paths: Iterable[Path], prompts: PromptSource) -> None:
    """Look for the prompt of every image before the first is scored, and not after an hour.

    Raises:
        SteerError: naming the first image without one.
    """
    if prompts.prompt is not None or not prompts.needed:
        return
    for path in paths:
        try:
            prompts.of(path, read_texts(path))
        except SteerError:
            try:
                texts = read_image(path).texts  # those behind the pixels too
            except ImageError:
                continue  # reported when its turn comes
            prompts.of(path, texts)


def prompt_from_texts(texts: Mapping[str, str]) -> Prompt | None:
    """Return the prompt from a PNG's steer recipe or ``parameters`` text; ``None`` if it carries neither."""
    try:
        prompt = json.loads(texts[PNG_KEY])["prompt"]
        str(prompt["text"]).encode()  # JSON can spell characters that are none
        text, identity, category = str(prompt["text"]), str(prompt["id"]), _named(prompt.get("category"))
        metadata = prompt.get("metadata")
        return Prompt(text, id=identity, category=category, metadata=metadata if isinstance(metadata, dict) else {})
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        pass  # made by another tool, or changed by hand
    lines = []
    for line in texts.get("parameters", "").splitlines():
        if line.startswith(("Negative prompt:", "Steps:")):
            break
        lines.append(line)
    text = "\n".join(lines).strip()
    return Prompt(text) if text else None


def _named(value: object) -> str | None:
    return None if value is None else str(value)


def needs_prompt(reward: RewardFunction) -> bool:
    """Whether a reward, or a part of it, reads the prompt."""
    parts = getattr(reward, "parts", None)
    return any(map(needs_prompt, parts)) if parts else bool(getattr(reward, "needs_prompt", True))
