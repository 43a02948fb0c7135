"""Rewards over detections: are the asked objects there, as many, in their colors, and where they should be?

``geneval`` is GenEval's verdict, 0 or 1. The others are graded parts of it, 0…1, to steer by.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer.plugin import Source, locate
from steer_detect import catalog
from steer_detect.asked import Asked, asked_of
from steer_detect.colors import Colors
from steer_detect.detection import Detection, kept
from steer_detect.detectors.detector import Detector, load
from steer_detect.detectors.mask2former import Mask2Former
from steer_detect.detectors.named import GroundingDino, Owlv2
from steer_detect.rules import MOST, faults, relations

KINDS: tuple[type[Detector], ...] = (Mask2Former, Owlv2, GroundingDino)

Kept = Mapping[str, Sequence[Detection]]


class DetectOptions(Options):
    """Options of the rewards over detections."""

    model: str = Field(
        "mask2former",
        description="Detector to use if the reward names none: mask2former (COCO's 80 classes, with masks), owlv2 or "
        "grounding-dino (any class), ORG/MODEL of the hub, or a folder.",
    )
    weights: str | None = Field(None, description="Local folder with the detector's files.")
    threshold: float | None = Field(
        None, ge=0, le=1, description="Least score of a detection; 0.3 for mask2former, 0.2 for owlv2, 0.35 for "
        "grounding-dino.",
    )  # fmt: skip
    counting: float | None = Field(
        None, ge=0, le=1, description="The same where objects are counted; 0.9 for mask2former, as in GenEval."
    )
    overlap: float | None = Field(
        None, gt=0, le=1, description="Intersection over union from which two detections of a class are one object; 1 "
        "for mask2former (never), 0.5 for owlv2, 0.8 for grounding-dino.",
    )  # fmt: skip


class ColorOptions(DetectOptions):
    """Options of the rewards that look at colors."""

    clip: str | None = Field(
        None,
        description="CLIP that names colors: an open_clip NAME/PRETRAINED or a folder; by default ViT-L-14/openai.",
    )


class Detect(Reward):
    """Base: finds the objects that a prompt asks for."""

    Options: ClassVar[type[Options]] = DetectOptions
    options: Any
    name: ClassVar[str]

    def prepare(self) -> None:
        """Load the detector that ``argument`` or the option ``model`` names."""
        name = self.argument if self.argument is not None else self.options.model
        owner = f"{self.name}:{name}" if self.argument is not None else self.name
        folder = Source(name).folder
        if name in catalog.DETECTORS or folder is None:
            folder = locate(catalog.detector(name)[0], owner=owner, given=self.options.weights)
        elif self.options.weights is not None:
            raise SteerError(f"got both {owner} and -o {self.name}.weights={self.options.weights}; give one of the two")
        self.detector = load(folder, self.device, KINDS)
        self.model = self.detector.model

    def completed(self, prompt: Prompt) -> Prompt:
        """Check that the prompt asks for objects that the detector knows.

        Raises:
            SteerError: naming the prompt.
        """
        self.detector.check(asked_of(prompt).names)
        return prompt

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        scores = [self.score(*row) for row in zip(samples, *self.find(samples, prompts), strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=samples.device)

    def find(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> tuple[list[Asked], list[list[Detection]]]:
        """Return what each prompt asks for, and the detections in its image."""
        asked = [asked_of(prompt) for prompt in prompts]
        return asked, self.detector.find(samples, [one.names for one in asked])

    def score(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> float:
        """Return the score of one image ``[3, H, W]`` with its detections."""
        raise NotImplementedError

    def kept(self, found: Sequence[Detection], *, counting: bool = False) -> Kept:
        """Return the detections that count, by class, the surest first."""
        given = self.options.counting if counting else self.options.threshold
        usual = self.detector.counting if counting else self.detector.threshold
        overlap = self.options.overlap if self.options.overlap is not None else self.detector.overlap
        return kept(found, usual if given is None else given, most=MOST, most_overlap=overlap)


class Objects(Detect):
    """Mean confidence of the detector in the asked objects, 0 for each that is not there; 0…1."""

    name = "objects"

    def score(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> float:
        there = self.kept(found)
        shares = [sum(one.score for one in there.get(w.name, ())[: w.count]) / w.count for w in asked.include]
        return sum(shares) / len(shares)


class Count(Detect):
    """Is there the asked number of each class? Mean over classes of 1 − |found − asked| / asked, at least 0."""

    name = "count"

    def score(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> float:
        there = self.kept(found, counting=True)
        wanted: dict[str, int] = {}
        for want in asked.include:
            wanted[want.name] = wanted.get(want.name, 0) + want.count
        shares = [max(0.0, 1 - abs(len(there.get(name, ())) - count) / count) for name, count in wanted.items()]
        return sum(shares) / len(shares)


class Positions(Detect):
    """Share of the asked relations that hold, left of, right of, above and below; 1 if none is asked."""

    name = "positions"

    def score(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> float:
        there, shares = self.kept(found), []
        for want in asked.include:
            if want.relation is None:
                continue
            other = asked.include[want.other]
            pairs = [
                want.relation in relations(one.box, target.box)
                for one in there.get(want.name, ())[: want.count]
                for target in there.get(other.name, ())[: other.count]
            ]
            shares.append(sum(pairs) / (want.count * other.count))
        return sum(shares) / len(shares) if shares else 1.0


class WithColors(Detect):
    """Base: also names colors."""

    Options: ClassVar[type[Options]] = ColorOptions

    def prepare(self) -> None:
        """Load the detector and the CLIP."""
        super().prepare()
        self.colors = Colors(self.options.clip or catalog.CLIP, self.device)
        self.clip = self.colors.model


class ObjectColors(WithColors):
    """Mean probability that asked objects have their color, 0 for each that is not there; 1 if no color is asked."""

    name = "colors"

    def score(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> float:
        there, shares = self.kept(found), []
        for want in asked.include:
            if want.color is None:
                continue
            group = there.get(want.name, ())[: want.count]
            place = self.colors.known(want).index(want.color)
            chances = self.colors.chances(image, group, want)[:, place].tolist() if group else []
            shares.append(sum(chances) / want.count)
        return sum(shares) / len(shares) if shares else 1.0


class GenEval(WithColors):
    """GenEval's verdict: 1 if the image shows what its prompt asks for, else 0."""

    name = "geneval"

    def score(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> float:
        return float(not self.faults(image, asked, found))

    def explained(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the verdicts, with the reason of each 0 and everything that was detected."""
        asked, found = self.find(samples, prompts)
        wrong = [self.faults(*row) for row in zip(samples, asked, found, strict=True)]
        details = [
            {
                "reason": "; ".join(faults),
                "found": [[one.name, round(one.score, 4), [round(edge, 1) for edge in one.box]] for one in row],
            }
            for faults, row in zip(wrong, found, strict=True)
        ]
        return torch.tensor([float(not faults) for faults in wrong], device=samples.device), details

    def faults(self, image: Tensor, asked: Asked, found: Sequence[Detection]) -> list[str]:
        """Return what is wrong with one image ``[3, H, W]``, in words."""
        there = self.kept(found, counting=asked.counting)
        return faults(asked, there, lambda group, want: self.colors.names(image, group, want))
