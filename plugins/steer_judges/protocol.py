"""The contract between ``http`` and a server of a reward, which docs/judges.md states; for both sides.

A request is ``{"images": [PNG in base64, …], "prompts": [text, …], "rows": [{…}, …]}``, or has ``"texts"`` instead of
images; an answer is ``{"scores": [number, …]}``, or ``{"error": text}`` with a status of 400 or above.
"""

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import Texts, image_bytes, json_text, opened_image, pictures

SCORE = "/score"
"""Path for requests; ``GET /`` tells what is served."""
KEY_VARIABLE = "STEER_REWARD_KEY"
"""Environment variable of both sides with a key that requests must carry."""
MOST_PIXELS = 2**26
"""Pixels of all images of a request."""


class BadAnswer(Exception):  # noqa: N818 - not an error of the program: what is wrong with an answer
    """An answer that holds no scores; the text says why, ``row`` which one if the others are right."""

    def __init__(self, why: str, row: int | None = None) -> None:
        super().__init__(why)
        self.row = row


@dataclass(frozen=True)
class Info:
    """What a server tells of its reward.

    Attributes:
        reward: its name.
        modality: of the samples that it scores, ``"image"`` or ``"text"``; ``None`` for either.
        needs_prompt: whether its scores depend on the prompts.
    """

    reward: str
    modality: str | None
    needs_prompt: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"reward": self.reward, "modality": self.modality, "needs_prompt": self.needs_prompt}


def info_from(text: str) -> Info:
    """Read what :meth:`Info.as_dict` wrote; all but ``reward`` may be left out.

    Raises:
        BadAnswer: for other data.
    """
    data = _object(text)
    reward, modality = data.get("reward"), data.get("modality")
    if not isinstance(reward, str) or modality not in (None, "image", "text"):
        raise BadAnswer('it is not {"reward": NAME, "modality": "image"}')
    return Info(reward, modality, bool(data.get("needs_prompt", True)))


def request_text(samples: Any, prompts: Sequence[Prompt | str]) -> str:
    """Return the request for scores of samples: images ``[N, 3, H, W]`` in [0, 1], rounded to 8 bits, or texts."""
    data: dict[str, Any] = {"prompts": [str(prompt) for prompt in prompts]}
    if isinstance(samples, Tensor):
        encoded = [base64.b64encode(image_bytes(picture)).decode() for picture in pictures(samples.float())]
        data["images"] = encoded
    else:
        data["texts"] = list(samples)
    rows = [dict(getattr(prompt, "metadata", {})) for prompt in prompts]
    if any(rows):
        data["rows"] = rows
    return json_text(data)


def scores_from(text: str, count: int) -> list[float]:
    """Read the scores of an answer.

    Raises:
        BadAnswer: if they are not ``count`` finite numbers.
    """
    scores = _object(text).get("scores")
    if not isinstance(scores, list) or len(scores) != count:
        got = f"{len(scores)} numbers" if isinstance(scores, list) else json_text(scores)[:40]
        raise BadAnswer(f"'scores' holds {got}, expected {count} numbers")
    for row, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise BadAnswer(f"its score is {str(score)[:40]}, expected a finite number", row)
    return [float(score) for score in scores]


def error_in(text: str) -> str:
    """Return the error of an answer, or the answer itself."""
    try:
        return str(_object(text)["error"])
    except (BadAnswer, KeyError):
        return text


def read_request(body: bytes) -> tuple[list[Tensor] | Texts, list[Prompt]]:
    """Read a request; nothing of it is trusted.

    Returns:
        Images as float ``[3, H, W]`` in [0, 1] of any sizes, or texts; and as many prompts.

    Raises:
        SteerError: for a request of another form, or an image that cannot be read.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise SteerError("the request is not JSON") from None
    if not isinstance(data, dict) or ("images" in data) == ("texts" in data):
        raise SteerError('expected an object with either "images" or "texts", and "prompts"')
    kind = "images" if "images" in data else "texts"
    values, prompts = _strings(data, kind), _strings(data, "prompts")
    rows = data.get("rows", [{}] * len(prompts))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SteerError('"rows" is not a list of objects')
    if not values or not len(values) == len(prompts) == len(rows):
        raise SteerError(
            f"got {len(values)} {kind}, {len(prompts)} prompts and {len(rows)} rows; expected as many of each"
        )
    asked = [Prompt(text, metadata=row) for text, row in zip(prompts, rows, strict=True)]
    return (Texts(values) if kind == "texts" else _images(values)), asked


def _images(values: Sequence[str]) -> list[Tensor]:
    images: list[Tensor] = []
    pixels = 0
    for number, value in enumerate(values, 1):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise SteerError(f"image {number} is not base64") from None
        with opened_image(data, f"image {number}") as image:
            pixels += image.width * image.height
            if pixels > MOST_PIXELS:
                raise SteerError(f"the images have more than {MOST_PIXELS:,} pixels together; send fewer at once")
            array = np.asarray(image.convert("RGB"))
        images.append(torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255)
    return images


def _strings(data: dict[str, Any], key: str) -> list[str]:
    values = data.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SteerError(f'"{key}" is not a list of texts')
    return values


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise BadAnswer("it is not JSON") from None
    if not isinstance(data, dict):
        raise BadAnswer("it is not a JSON object")
    return data
