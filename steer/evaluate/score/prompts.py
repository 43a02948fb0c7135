"""The prompts of images: from the command, from files in their folders, or from the images themselves."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steer.errors import SteerError
from steer.evaluate.score.files import FileError, medium_of, read_file, texts_in
from steer.evaluate.score.layouts import Layouts, Told, prompt_in_name, read_captions, read_metadata
from steer.prompts.pictures.tools import Embedded, embedded_prompt
from steer.prompts.prompt import Prompt
from steer.results.recipe import PNG_KEY
from steer.rewards.combinations import Combination
from steer.rewards.reward import RewardFunction


@dataclass
class PromptSource:
    """Finds the prompts of images.

    Attributes:
        prompt: one for all.
        metadata: a file that names images, or a folder with a text for each; by default, texts beside and in images.
        column: the key of metadata files that holds the prompts.
        needed: whether an image without a prompt is an error.
        roots: files and folders that the user named.
    """

    prompt: str | None = None
    metadata: Path | None = None
    column: str | None = None
    needed: bool = True
    roots: Sequence[Path] = ()

    def __post_init__(self) -> None:
        """Read the metadata file, if one was named."""
        self._layouts = Layouts(self.column, self.roots)
        self._inferred: dict[str, set[Path]] = {}
        self._named: dict[Path, Prompt] = {}
        self._by_stem: dict[str, Prompt] = {}
        if self.metadata is not None and self.metadata.is_dir():
            self._by_stem = read_captions(self.metadata)
        elif self.metadata is not None:
            self._named = read_metadata(self.metadata, self.column)

    def of(self, path: Path, texts: Mapping[str, str]) -> Prompt:
        """Return an image's prompt.

        Args:
            path: the image.
            texts: in its file.

        Raises:
            SteerError: if it has none and a reward needs one; names the image.
        """
        if self.prompt is not None:
            return Prompt(self.prompt)
        embedded = embedded_prompt(texts)
        found = self._beside(path) or _carried(texts, embedded) or prompt_in_name(path)
        if found is not None:
            prompt, how = found
            if how:
                self._inferred.setdefault(how, set()).add(path)
            return prompt
        if not self.needed:
            return Prompt("")
        where = f" in {self.metadata}" if self.metadata is not None else ""
        why = f" ({embedded.tool}: {embedded.why})" if embedded is not None else ""
        raise SteerError(
            f"{medium_of(path).name} {path} has no prompt{where}{why}; give --prompt TEXT for all, or --metadata FILE "
            f'with lines such as {{"file_name": "{path.name}", "prompt": "…"}}'
        )

    def inferred(self) -> str:
        """Return, on one line, how prompts were found that the user did not give; empty if there are none."""
        return ", ".join(f"{how}: {len(paths)}" for how, paths in sorted(self._inferred.items()))

    def _beside(self, path: Path) -> Told | None:
        if self.metadata is None:
            return self._layouts.beside(path)
        prompt = self._named.get(path.resolve()) or self._by_stem.get(path.stem)
        return None if prompt is None else (prompt, "")


def check_prompts(paths: Iterable[Path], prompts: PromptSource) -> None:
    """Find the prompt of every image before the first is scored, so that a missing one shows at once.

    Raises:
        SteerError: naming the first image without one.
    """
    if prompts.prompt is not None or not prompts.needed:
        return
    for path in paths:
        try:
            prompts.of(path, texts_in(path))
        except SteerError:
            try:
                texts = read_file(path).texts  # also texts behind the pixels
            except FileError:
                continue  # reported when its turn comes
            prompts.of(path, texts)


def _carried(texts: Mapping[str, str], embedded: Embedded | None) -> Told | None:
    """Return the prompt that an image carries: in steer's recipe, or as another tool wrote it; ``None`` without one."""
    try:
        prompt = json.loads(texts[PNG_KEY])["prompt"]
        str(prompt["text"]).encode()  # JSON can spell invalid characters
        category, metadata = prompt.get("category"), prompt.get("metadata")
        recipe = Prompt(
            str(prompt["text"]),
            id=str(prompt["id"]),
            category=None if category is None else str(category),
            metadata=metadata if isinstance(metadata, dict) else {},
        )
        return recipe, ""
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        pass  # made by another tool, or changed by hand
    if embedded is None or embedded.text is None:
        return None
    return Prompt(embedded.text), "" if embedded.tool == "A1111" else f"{embedded.tool}'s data in images"


def needs_prompt(reward: RewardFunction) -> bool:
    """Whether a reward, or a part of it, reads the prompt."""
    if isinstance(reward, Combination):  # an attribute `parts` of another reward is its own business
        return any(map(needs_prompt, reward.parts))
    return bool(getattr(reward, "needs_prompt", True))
