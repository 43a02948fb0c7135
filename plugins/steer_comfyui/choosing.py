"""ComfyUI's images and latents as steer's samples, and rows of them by score."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from steer import SteerError

Latent = dict[str, Any]
"""ComfyUI's LATENT: ``samples`` ``[N, C, H, W]``, and perhaps ``noise_mask`` and ``batch_index``."""


def to_samples(images: Tensor) -> Tensor:
    """Return ComfyUI's IMAGE ``[N, H, W, C]`` as samples ``[N, 3, H, W]`` in [0, 1]; an alpha channel is left out.

    Raises:
        SteerError: for frames of a video, or other channels than gray, RGB or RGBA.
    """
    if images.ndim == 5 and images.shape[1] == 1:  # a video model's decoder, for one image
        images = images[:, 0]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise SteerError(
            f"steer's nodes score images, got {tuple(images.shape)}; expected [N, H, W, 3], and of a model of videos "
            "one frame"
        )
    samples = images.movedim(-1, 1).float().clamp(0, 1)
    return samples.expand(-1, 3, -1, -1) if samples.shape[1] == 1 else samples[:, :3]


def to_images(samples: Tensor) -> Tensor:
    """Return samples ``[N, 3, H, W]`` as ComfyUI's IMAGE ``[N, H, W, 3]``, on the CPU."""
    return samples.movedim(1, -1).float().cpu().contiguous()


def check_scores(scores: Sequence[float], count: int) -> None:
    """Raise unless there is one score per image.

    Raises:
        SteerError: naming both numbers.
    """
    if len(scores) != count:
        raise SteerError(f"got {len(scores)} scores for {count} images; connect the scores of the same images")


def best(scores: Sequence[float], n: int) -> list[int]:
    """Return the rows of the n highest scores (or of all), best first; in a tie, the first rows win."""
    return sorted(range(len(scores)), key=lambda row: -scores[row])[:n]


def above(scores: Sequence[float], threshold: float, otherwise: Literal["error", "best", "skip"]) -> list[int]:
    """Return the rows whose score is at least a threshold, in order.

    Args:
        otherwise: if there are none, raise an error, return the best row, or return no row.

    Raises:
        SteerError: naming the best score.
    """
    rows = [row for row, score in enumerate(scores) if score >= threshold]
    if rows or otherwise == "skip" or not scores:
        return rows
    if otherwise == "error":
        raise SteerError(
            f"no image reaches the threshold {threshold:g}: the best of {len(scores)} has {max(scores):g}; lower it, "
            "or set if_none to best or skip"
        )
    return best(scores, 1)


def rows_of(latent: Latent, rows: Sequence[int]) -> Latent:
    """Return some rows of a LATENT, with their masks and batch indices.

    Raises:
        SteerError: if it has fewer rows.
    """
    count = len(latent["samples"])
    if rows and max(rows) >= count:
        raise SteerError(f"the latent has {count} rows, and image {max(rows)} was chosen; connect those of the images")
    index = torch.tensor(rows, dtype=torch.int64)
    chosen: Latent = {**latent, "samples": latent["samples"][index]}
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) == count:
        chosen["noise_mask"] = mask[index]
    if "batch_index" in latent:
        chosen["batch_index"] = [latent["batch_index"][row] for row in rows]
    return chosen
