"""Does an image show the texts that its prompt quotes? Read by PP-OCR, whose weights come with ``rapidocr``.

The score follows the text rewards of Flow-GRPO (Liu et al. 2025, arXiv 2505.05470): one minus the edit distance per
letter. There, all text on the image is compared with all that was asked for; here, each text with the part of the image
that is most like it, so that other letters in the picture do not count against it.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steer import Prompt, Reward, SteerError
from steer.plugin import pictures
from steer_rewards.quoted import wanted_texts

SIDE = 960
"""Text is searched in images whose longer side has at most so many pixels, PaddleOCR's own default. ``rapidocr``
enlarges the shorter side to 736 pixels instead, which takes up to five times as long."""

_ALIKE = str.maketrans(
    {**dict.fromkeys("‘’‚‛`´′", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—−", "-")}
)


class Ocr(Reward):
    """Share of letters of the quoted texts that can be read in the image, 0…1; mean over the texts.

    Case, spaces and the shapes of quotes and dashes do not matter. A letter that is wrong, missing or in excess costs
    one letter of its text.
    """

    def prepare(self) -> None:
        """Load the reader.

        Raises:
            SteerError: if ``rapidocr`` is not installed.
        """
        if self.argument is not None:
            raise SteerError(f"ocr takes no argument, got {self.argument!r}")
        self.reader = _reader()

    def completed(self, prompt: Prompt) -> Prompt:
        """Raise before anything is sampled, if a prompt asks for no text."""
        wanted_texts(prompt)
        return prompt

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        wanted = [wanted_texts(prompt) for prompt in prompts]
        scores = [
            sum(likeness(text, seen) for text in texts) / len(texts)
            for texts, seen in zip(wanted, map(self.read, pictures(samples.float())), strict=True)
        ]
        return torch.tensor(scores, dtype=torch.float32, device=samples.device)

    def read(self, picture: Any) -> str:
        """Return all text in a picture, from top to bottom and left to right, without separators."""
        return "".join(self.reader(picture).txts or ())


def likeness(text: str, seen: str) -> float:
    """Return how much of a text stands somewhere in another, 0…1: one minus edits per letter, at its best place."""
    letters, there = plain(text), plain(seen)
    # Sellers' algorithm: the text may begin and end anywhere, so the first row is zero and the last one's least counts
    row = [0] * (len(there) + 1)
    for number, letter in enumerate(letters, 1):
        above, row = row, [number]
        for column, other in enumerate(there):
            row.append(min(above[column] + (letter != other), above[column + 1] + 1, row[column] + 1))
    return 1 - min(row) / len(letters)


def plain(text: str) -> str:
    """Return a text in lower case, without spaces, and with one shape of each quote and dash."""
    # the table first: NFKC would make two signs of some quotes
    return "".join(unicodedata.normalize("NFKC", text.translate(_ALIKE)).casefold().split())


def _reader() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError:
        raise SteerError("ocr needs rapidocr and onnxruntime: pip install 'steer-diffusion[ocr]'") from None
    threads = torch.get_num_threads()
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Det.limit_type": "max",
            "Det.limit_side_len": SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
