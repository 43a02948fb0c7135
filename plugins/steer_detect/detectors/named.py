"""Detectors of anything that can be named: OWLv2 (arXiv 2306.09683) and Grounding DINO (arXiv 2303.05499)."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from steer_detect.detection import Detection
from steer_detect.detectors.detector import LEAST_SCORE, Detector, clipped

TEMPLATE = "a photo of a {}"
"""A query of OWLv2."""


class Owlv2(Detector):
    """Each box belongs to the name that fits it best; its score is that name's."""

    architecture = "Owlv2ForObjectDetection"
    threshold, counting, overlap = 0.2, 0.2, 0.5

    def detect(self, images: Sequence[Image.Image], names: tuple[str, ...]) -> list[list[Detection]]:
        queries = [[TEMPLATE.format(name) for name in names]] * len(images)
        inputs = self.processor(text=queries, images=list(images), return_tensors="pt", truncation=True)
        out = self.model(**inputs.to(self.device))
        side = max(images[0].size)  # the processor pads images to a square, on the right and at the bottom
        return [
            detections(scores, boxes, names, images[0].size, (side, side))
            for scores, boxes in zip(out.logits.float().sigmoid(), out.pred_boxes.float(), strict=True)
        ]


class GroundingDino(Detector):
    """Names are phrases of one text; a box scores for a name as for the best of the name's tokens."""

    architecture = "GroundingDinoForObjectDetection"
    threshold, counting, overlap = 0.35, 0.35, 0.8

    def detect(self, images: Sequence[Image.Image], names: tuple[str, ...]) -> list[list[Detection]]:
        phrases = [" ".join(name.lower().replace(".", " ").split()) for name in names]
        text = "".join(f"{phrase}. " for phrase in phrases).strip()
        inputs = self.processor(images=list(images), text=[text] * len(images), return_tensors="pt").to(self.device)
        out = self.model(**inputs)
        places = spans(inputs["input_ids"][0].tolist(), self._stop(), len(names))
        found = []
        for chances, boxes in zip(out.logits.float().sigmoid(), out.pred_boxes.float(), strict=True):
            scores = torch.stack([chances[:, span].amax(dim=1) for span in places], dim=1)
            found.append(detections(scores, boxes, names, images[0].size, images[0].size))
        return found

    def _stop(self) -> int:
        return int(self.processor.tokenizer.convert_tokens_to_ids("."))


def spans(ids: Sequence[int], stop: int, count: int) -> list[slice]:
    """Return the places of phrases in a text's tokens: a special token first, and a stop after each phrase."""
    found, start = [], 1
    for place, token in enumerate(ids):
        if token == stop:
            found.append(slice(start, max(place, start + 1)))
            start = place + 1
    return found[:count]


def detections(
    scores: Tensor, boxes: Tensor, names: Sequence[str], size: tuple[int, int], scale: tuple[int, int]
) -> list[Detection]:
    """Return the detections of one image.

    Args:
        scores: ``[Q, names]`` in [0, 1].
        boxes: ``[Q, 4]``: center, width and height as shares of ``scale``.
        names: of the columns.
        size: width and height of the image in pixels.
        scale: width and height in pixels to which boxes relate.
    """
    best, which = scores.max(dim=1)
    x, y, w, h = (boxes * boxes.new_tensor([*scale, *scale])).unbind(dim=1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=1).tolist()
    found = []
    for score, name, corner in zip(best.tolist(), which.tolist(), corners, strict=True):
        left, top, right, bottom = box = clipped(corner, *size)
        if score >= LEAST_SCORE and left < right and top < bottom:  # else it is in the padding
            found.append(Detection(names[name], score, box))
    return found
