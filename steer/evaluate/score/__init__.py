"""Scoring image files: which there are, what they show, what they were made for, and what is scored already.

Files come from anywhere. One that is no image, cut short or far too large is reported and the others are scored.
"""

from steer.evaluate.score.images import ImageError, Picture, find_images, read_image
from steer.evaluate.score.prompts import PromptSource, check_prompts, needs_prompt, prompt_from_texts, read_metadata
from steer.evaluate.score.rows import Row, open_rows, read_rows, write_row
from steer.evaluate.score.score import expressions_of, score_images

__all__ = [
    "ImageError", "Picture", "PromptSource", "Row", "check_prompts", "expressions_of", "find_images", "needs_prompt",
    "open_rows", "prompt_from_texts", "read_image", "read_metadata", "read_rows", "score_images", "write_row",
]  # fmt: skip
