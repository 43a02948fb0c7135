"""T2I-CompBench++'s scores as rewards: ``compbench-2d``, ``compbench-3d`` and ``compbench-numeracy``."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from steer import Field, Options, Prompt
from steer.plugin import Source, locate, pictures, pretrained
from steer_detect import catalog
from steer_detect.asked import parse
from steer_detect.compbench import (
    DEEP,
    FLAT,
    deep_score,
    ends_of,
    flat_score,
    number_score,
    relation_of,
    surest,
    wanted_of,
)
from steer_detect.detection import Detection
from steer_detect.rewards import Detect, DetectOptions


class CompbenchOptions(DetectOptions):
    """Options of the rewards of T2I-CompBench++."""

    model: str = Field(
        "owlv2",
        description="Detector to use if the reward names none: owlv2, grounding-dino, mask2former, or a folder.",
    )


class DepthOptions(CompbenchOptions):
    """Options of ``compbench-3d``."""

    depth: str | None = Field(
        None, description=f"Model of depth: ORG/MODEL of the hub, or a folder; by default {catalog.DEPTH}."
    )


class Compbench(Detect):
    """Base: the classes are those that the published evaluation looks for."""

    Options: ClassVar[type[Options]] = CompbenchOptions

    def completed(self, prompt: Prompt) -> Prompt:
        """Check that the prompt names objects that the detector knows."""
        self.detector.check(self.names(str(prompt)))
        return prompt

    def names(self, text: str) -> tuple[str, ...]:
        """Return the classes to look for."""
        raise NotImplementedError

    def judge(self, text: str, found: Sequence[Detection], image: Tensor) -> float:
        """Return the score of one image ``[3, H, W]`` with its detections, the surest first."""
        raise NotImplementedError

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        texts = [str(prompt) for prompt in prompts]
        found = self.detector.find(samples, [self.names(text) for text in texts])
        scores = []
        for text, row, image in zip(texts, found, samples, strict=True):
            there = [one for group in self.kept(row).values() for one in group]
            scores.append(self.judge(text, sorted(there, key=lambda one: -one.score), image))
        return torch.tensor(scores, dtype=torch.float32, device=samples.device)


class Flat(Compbench):
    """Are two objects there, and beside each other as asked? Confidence and relation, half each; 0…1."""

    name = "compbench-2d"
    relations: tuple[str, ...] = FLAT

    def names(self, text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(ends_of(text, relation_of(text, self.relations), parse(text).include)))

    def judge(self, text: str, found: Sequence[Detection], image: Tensor) -> float:
        relation, (first, second) = self._pair(text, found)
        return flat_score(relation, first, second, min(image.shape[-2:]))

    def _pair(
        self, text: str, found: Sequence[Detection]
    ) -> tuple[str | None, tuple[Detection | None, Detection | None]]:
        relation = relation_of(text, self.relations)
        groups: dict[str, list[Detection]] = {}
        for one in found:
            groups.setdefault(one.name, []).append(one)
        first, second = ends_of(text, relation, parse(text).include)
        return relation, (surest(groups, first), surest(groups, second))


class Deep(Flat):
    """Are two objects there, and one in front of the other as asked? Confidence and relation, half each; 0…1."""

    name = "compbench-3d"
    relations = DEEP
    Options = DepthOptions

    def prepare(self) -> None:
        """Load the detector and the model of depth."""
        super().prepare()
        name = self.options.depth or catalog.DEPTH
        folder = Source(name).folder or locate(catalog.depth_of(name), owner=self.name)
        self.depth, self._processor = pretrained(
            "AutoModelForDepthEstimation", "AutoImageProcessor", folder, "a model of depth", device=self.device
        )

    @torch.no_grad()
    def judge(self, text: str, found: Sequence[Detection], image: Tensor) -> float:
        relation, (first, second) = self._pair(text, found)
        inputs = self._processor(images=pictures(image[None]), return_tensors="pt").to(self.device)
        near = self.depth(**inputs).predicted_depth.float()
        size = tuple(image.shape[-2:])
        depth = functional.interpolate(near[:, None], size, mode="bicubic", align_corners=False)[0, 0]
        return deep_score(relation, first, second, depth.cpu().numpy())


class Numeracy(Compbench):
    """Are the named classes there, and in the right numbers? Half each, averaged over classes; 0…1."""

    name = "compbench-numeracy"

    def names(self, text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in wanted_of(parse(text).include)))

    def judge(self, text: str, found: Sequence[Detection], image: Tensor) -> float:
        return number_score(wanted_of(parse(text).include), found)
