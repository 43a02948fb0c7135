"""``Sample`` and ``Item``: finished particles, and the result of one prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL import Image

from steer.models.media import Medium, media_of
from steer.models.media.video import Video
from steer.prompts.prompt import Prompt
from steer.results.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One particle at the end.

    Attributes:
        value: the decoded sample in its medium's type: a picture, a string or a :class:`Video`.
        slot: its slot; ``seed + slot`` seeded its noise.
        reward: its score, ``None`` without a reward.
        log_weight: its log importance weight.
        judge: scores of the held-out judges, by name; nothing was steered or chosen by them.
    """

    value: Any
    slot: int
    reward: float | None
    log_weight: float
    judge: Mapping[str, float] = field(default_factory=dict)

    @property
    def image(self) -> Image.Image:
        """The image; ``TypeError`` for another sample."""
        return self._as(Image.Image, "an image")

    @property
    def video(self) -> Video:
        """The video; ``TypeError`` for another sample."""
        return self._as(Video, "a video")

    @property
    def text(self) -> str:
        """The text; ``TypeError`` for another sample."""
        return self._as(str, "a text")

    def _as(self, kind: type[T], what: str) -> T:
        if not isinstance(self.value, kind):
            raise TypeError(f"this sample is not {what}: use .image, .video, .text, or .value for any kind")
        return self.value


@dataclass(frozen=True)
class Item:
    """The result of one prompt.

    Attributes:
        prompt: the prompt.
        seed: the seed of its slot 0.
        samples: all particles, by slot.
        chosen: indices into ``samples``.
        trace: see :func:`steer.sampling.trace.trace_of`.
        recipe: reproduces it.
        modality: of the samples, ``"image"``, ``"video"`` or ``"text"``.
    """

    prompt: Prompt
    seed: int
    samples: tuple[Sample, ...]
    chosen: tuple[int, ...]
    trace: dict[str, Any]
    recipe: Recipe
    modality: str = "image"

    @property
    def medium(self) -> Medium:
        """The medium of the samples."""
        return media_of(self.modality)

    def sample_bytes(self, index: int) -> bytes:
        """Return a sample as a file, with its recipe if files of its medium can carry one."""
        sample = self.samples[index]
        return self.medium.encoded(sample.value, self.recipe.texts(sample.slot))

    @property
    def images(self) -> list[Image.Image]:
        """The chosen images."""
        return [self.samples[index].image for index in self.chosen]

    @property
    def videos(self) -> list[Video]:
        """The chosen videos."""
        return [self.samples[index].video for index in self.chosen]

    @property
    def texts(self) -> list[str]:
        """The chosen texts."""
        return [self.samples[index].text for index in self.chosen]

    @property
    def reward(self) -> float | None:
        """Reward of the first chosen sample."""
        return self.samples[self.chosen[0]].reward

    @property
    def mean_reward(self) -> float | None:
        """Mean reward over all particles, each counted once."""
        values = [sample.reward for sample in self.samples if sample.reward is not None]
        return sum(values) / len(values) if values else None

    @property
    def judge(self) -> Mapping[str, float]:
        """Judges' scores of the first chosen sample."""
        return self.samples[self.chosen[0]].judge
