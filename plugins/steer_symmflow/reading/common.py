"""Code that both commands share: loading the model, and reading images batch by batch."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch import Tensor

from steer import SteerError
from steer.plugin import Bar, ImageError, check_seed, one_line, pick_device, pick_dtype, pictures, read_image
from steer_symmflow.model import SymmFlowModel, find, load
from steer_symmflow.reading.votes import fitted, votes


@dataclass(frozen=True)
class Reading:
    """The result for one image.

    Attributes:
        picture: the image, RGB, at its own size.
        votes: share of the draws that give each label, ``[K]``, or ``[K, h, w]`` at the model's size.
    """

    path: Path
    picture: Image.Image
    votes: Tensor


def open_model(name: str, kind: str, device: str | None, dtype: str | None) -> SymmFlowModel:
    """Load a model of one kind, ``"masks"`` or ``"classes"``.

    Raises:
        SteerError: if there is no such model, or it is of the other kind.
    """
    where = pick_device(device)
    model = load(find(name), where, pick_dtype(dtype, where))
    if model.config.kind != kind:
        command = "segments" if model.config.kind == "masks" else "classifies"
        wanted = "steer segment" if model.config.kind == "masks" else "steer classify"
        raise SteerError(f"model {name!r} {command}; use {wanted}, or give another --model")
    return model


def readings(
    model: SymmFlowModel, paths: Collection[Path], label: str, errors: list[str], **how: Any
) -> Iterator[Reading]:
    """Read images with a progress bar; a file that is not an image gives a warning and an entry in ``errors``.

    Args:
        how: see :func:`read_all`.
    """
    with Bar(label, len(paths)) as bar:
        for outcome in read_all(model, paths, **how):
            bar.advance()
            if isinstance(outcome, Reading):
                yield outcome
            else:
                errors.append(str(outcome))
                click.echo(f"steer: warning: {one_line(str(outcome))}", err=True)


def read_all(
    model: SymmFlowModel, paths: Iterable[Path], *, batch: int, steps: int, scheduler: str, draws: int, seed: int
) -> Iterator[Reading | ImageError]:
    """Read images batch by batch, in order; a file that is not an image yields its error."""
    check_seed(seed, "seed")
    device = next(model.unet.parameters()).device
    waiting: list[tuple[Path, Image.Image, Tensor]] = []

    def flush() -> Iterator[Reading]:
        if not waiting:
            return
        images = torch.cat([fit for _, _, fit in waiting]).to(device)
        found = votes(model, images, steps=steps, draws=draws, seed=seed, solver=scheduler).cpu()
        for (path, picture, _), row in zip(waiting, found, strict=True):
            yield Reading(path, picture, row)
        waiting.clear()

    for path in paths:
        try:
            pixels = read_image(path).pixels
        except ImageError as error:
            yield from flush()
            yield error
            continue
        # as bytes, because waiting images are held at full size
        (picture,) = pictures(pixels[None])
        waiting.append((path, picture, fitted(pixels[None], model.config.size)))
        if len(waiting) == batch:
            yield from flush()
    yield from flush()
