"""Mask2Former (Cheng et al. 2022, arXiv 2112.01527), trained on COCO: 80 classes, with a mask for each object.

Detections are made as GenEval's detection library makes them: the most likely pairs of query and class, scored by the
probability of the class times the mean probability of the mask's pixels; boxes are those of the masks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from steer import SteerError
from steer.plugin import nearest
from steer_detect.detection import Detection
from steer_detect.detectors.detector import LEAST_SCORE, Detector
from steer_detect.names import same

PER_IMAGE = 100
"""Pairs of query and class per image."""


class Mask2Former(Detector):
    """Detects the classes that its configuration names."""

    architecture = "Mask2FormerForUniversalSegmentation"
    threshold, counting, overlap = 0.3, 0.9, 1.0

    def __init__(self, model: Any, processor: Any, folder: Any) -> None:
        super().__init__(model, processor, folder)
        self.labels = {same(str(name)): int(number) for number, name in model.config.id2label.items()}

    def check(self, names: Sequence[str]) -> None:
        """Raise for a name that is no label.

        Raises:
            SteerError: naming it, and a detector that takes any name.
        """
        for name in names:
            if same(name) not in self.labels:
                raise SteerError(
                    f"this detector does not know {name[:60]!r}{nearest(name, self.model.config.id2label.values())}; "
                    f"it knows {len(self.labels)} classes. owlv2 and grounding-dino look for any object"
                )

    def detect(self, images: Sequence[Image.Image], names: tuple[str, ...]) -> list[list[Detection]]:
        self.check(names)
        wanted: dict[int, list[str]] = {}
        for name in names:
            wanted.setdefault(self.labels[same(name)], []).append(name)
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        out = self.model(pixel_values=inputs["pixel_values"], pixel_mask=inputs.get("pixel_mask"))
        width, height = images[0].size
        return [
            [
                Detection(name, score, box, mask)
                for label, score, box, mask in instances(logits, masks, (height, width), wanted)
                for name in wanted[label]
            ]
            for logits, masks in zip(out.class_queries_logits, out.masks_queries_logits, strict=True)
        ]


def instances(logits: Tensor, masks: Tensor, size: tuple[int, int], wanted: Any) -> list[tuple[int, float, Any, Any]]:
    """Return label, score, box and mask of the objects in one image.

    Args:
        logits: ``[Q, classes + 1]``; the last class is none.
        masks: logits ``[Q, h, w]``.
        size: height and width of the image in pixels.
        wanted: labels to return.
    """
    chances = logits.float().softmax(dim=-1)[:, :-1]
    classes = chances.shape[1]
    scores, pairs = chances.flatten().topk(min(PER_IMAGE, chances.numel()))
    found = []
    for score, pair in zip(scores.tolist(), pairs.tolist(), strict=True):
        query, label = divmod(pair, classes)
        if label not in wanted or score < LEAST_SCORE:
            continue
        large = functional.interpolate(masks[query][None, None].float(), size, mode="bilinear", align_corners=False)
        inside = large[0, 0] > 0
        if not bool(inside.any()):
            continue
        score *= float(large[0, 0].sigmoid()[inside].mean())
        rows, columns = (torch.nonzero(inside.any(dim=dim)).flatten() for dim in (1, 0))
        top, bottom, left, right = (int(edge) for edge in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
        if score >= LEAST_SCORE:
            box = float(left), float(top), float(right), float(bottom)
            found.append((label, score, box, inside[top:bottom, left:right].cpu().numpy()))
    return found
