"""``Result``: the items of all prompts, and their cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from steer.models.media.video import Video
from steer.results.cost import Cost
from steer.results.folder import OutputFolder
from steer.results.items import Item


@dataclass(frozen=True)
class Result:
    """Result of :meth:`steer.sampling.sampler.Sampler.generate`: one item per prompt, and the cost of all."""

    items: tuple[Item, ...]
    cost: Cost

    @property
    def images(self) -> list[Image.Image]:
        """The chosen images of all prompts, in order."""
        return [image for item in self.items for image in item.images]

    @property
    def videos(self) -> list[Video]:
        """The chosen videos of all prompts, in order."""
        return [video for item in self.items for video in item.videos]

    @property
    def texts(self) -> list[str]:
        """The chosen texts of all prompts, in order."""
        return [text for item in self.items for text in item.texts]

    @property
    def rewards(self) -> list[list[float | None]]:
        """Rewards ``[prompts][particles]``."""
        return [[sample.reward for sample in item.samples] for item in self.items]

    @property
    def trace(self) -> list[dict[str, Any]]:
        """One trace per prompt."""
        return [item.trace for item in self.items]

    def save(self, folder: str | Path, *, force: bool = False) -> str:
        """Write images or videos with their recipes and a contact sheet, or texts, and traces and ``result.json``.

        Args:
            folder: a path or an fsspec URL.
            force: replace the results of an earlier run in the folder.

        Returns:
            The folder's name.

        Raises:
            SteerError: if the folder cannot be written to, is in use, or holds results.
        """
        output = OutputFolder(folder)
        with output.claimed([item.prompt.id for item in self.items], force=force):
            for item in self.items:
                output.write(item)
            output.finish(self.cost)
        return output.storage.name
