"""``steer train symmflow``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
import torch
from accelerate import PartialState

from steer import SteerError
from steer.plugin import check_seed, computes_bf16, manager, parse_size, quiet_libraries
from steer.training import check_begins
from steer_symmflow import infer
from steer_symmflow.model import SymmFlowConfig, SymmFlowModel, begun_from, find, load
from steer_symmflow.stable_diffusion import doubled, on_base
from steer_symmflow.train.data import Labelled, open_data, to_pixels
from steer_symmflow.train.sheet import sheet_of
from steer_symmflow.train.trainer import CHECKPOINT, Recipe, train

ABOUT = "symmflow.json"
"""What a run's network is and what of, in its folder from the start on."""
HEAD = 32
"""Channels of an attention head."""


@click.command()
@click.option("--data", "data_name", required=True, metavar="NAME|FOLDER",
              help="Known data, torchvision:CLASS:FOLDER, or a folder.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--steps", default=3000, show_default=True, type=click.IntRange(1), help="Optimiser steps.")
@click.option("--batch", default=32, show_default=True, type=click.IntRange(1), help="Images a forward.")
@click.option("--rate", default=1e-3, show_default=True, type=float, help="Peak learning rate.")
@click.option("--beta", type=float, help="Width of the dequantisation; 6 for masks, 4 for classes.")
@click.option("--image-weight", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="w of the loss.")
@click.option("--late", default=0.1, show_default=True, type=click.FloatRange(0, 1),
              help="Share of the times that are t=1 exactly, where inference begins.")  # fmt: skip
@click.option(
    "--widths", metavar="C,C,…", default="64,96,128", show_default=True, help="Channels of the U-Net's levels."
)
@click.option(
    "--patch", default=2, show_default=True, type=click.IntRange(1), help="Side of the blocks that become channels."
)
@click.option("--init", "base", metavar="FOLDER|ID|symmflow:NAME",
              help="Start from a Stable Diffusion, its channels doubled, or from a flow of other data.")  # fmt: skip
@click.option("--size", metavar="WxH", help="Resize images.")
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "no", "bf16", "fp16"]),
              help="Mixed precision; auto is bf16 on devices that compute in it.")  # fmt: skip
@click.option("--accumulate", default=1, show_default=True, type=click.IntRange(1), help="Batches a step.")
@click.option("--ema", default=0.999, show_default=True, type=click.FloatRange(0, 1, max_open=True),
              help="Decay of the averaged weights a step.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of weights, noise and the order of the data.")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
def command(
    data_name: str, out: Path, steps: int, batch: int, rate: float, beta: float | None, image_weight: float,
    late: float, widths: str, patch: int, size: str | None, precision: str, accumulate: int, ema: float, seed: int,
    base: str | None, resume: bool,
) -> None:  # fmt: skip
    """Train a symmetric flow on images with masks or classes.

    Data is a known name, torchvision:CLASS:FOLDER, a folder with images/, masks/ and labels.json, one with a subfolder
    a class, or one with a metadata.csv of file_name,label. --widths and --patch are for training from scratch.
    """
    quiet_libraries()
    check_seed(seed, "seed")
    check_begins(out / CHECKPOINT, resume=resume)
    _check_positive(rate=rate, beta=beta)
    _check_source(base)
    data = open_data(data_name, _size(size), manager())
    beta = beta if beta is not None else (6.0 if data.kind == "masks" else 4.0)
    config = SymmFlowConfig(data.kind, data.labels, data.size, data.colors, beta)
    torch.manual_seed(seed)
    if precision == "auto":
        precision = "bf16" if computes_bf16("cuda" if torch.cuda.is_available() else "cpu") else "no"
    recipe = Recipe(
        steps=steps, batch=batch, rate=rate, image_weight=image_weight, late=late, seed=seed, precision=precision,
        accumulate=accumulate, ema=ema, warmup=min(100, steps // 10),
    )  # fmt: skip
    if base is None:
        unet = unet_config(_widths(widths), patch, data.size)
        model = SymmFlowModel(replace(config, patch=patch, unet=unet))
    elif base.startswith("symmflow:"):
        model = begun_from(load(find(base)), config)
    else:
        model = doubled(*on_base(base, config))
    _begin(out, model.config, resume)
    trained = train(model, data, recipe, out, resume=resume, sheet=lambda m, path: _sheet(m, data, path, batch))
    if PartialState().is_main_process:
        trained.save(out / "model")
        click.echo(f"model: {out / 'model'} (steer generate --model symmflow:{out / 'model'})")


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise SteerError(f"--{name} {value:g}: expected a number above 0")


def _check_source(base: str | None) -> None:
    """Raise if options of a new network were typed beside one to start from."""
    context = click.get_current_context()
    for name in ("widths", "patch"):
        if base is not None and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise SteerError(f"got --{name} beside --init, whose network has its own; leave one of the two out")


def _begin(out: Path, config: SymmFlowConfig, resume: bool) -> None:
    """Make a run's folder and note what it trains; raise if another run is to go on there.

    Raises:
        SteerError: if the folder cannot be made, or holds a run of other data or another network.
    """
    about = out / ABOUT
    told = json.dumps(asdict(config), indent=1) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if resume and about.is_file():
            old, new = json.loads(about.read_text(encoding="utf-8")), json.loads(told)
            changed = [name for name in new if new[name] != old.get(name)]
            if changed:
                raise SteerError(
                    f"{out} holds a run with another {', '.join(changed)}; resume with the same --data and network, or "
                    "choose another --out"
                )
        elif not (out / CHECKPOINT).exists():
            about.write_text(told, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SteerError(f"folder {out} cannot be used ({reason}); choose another --out") from None


def unet_config(widths: tuple[int, ...], patch: int, size: tuple[int, int]) -> dict[str, object]:
    """Return the configuration of a pixel-space U-Net with attention at its lowest level only."""
    levels = len(widths)
    smallest = patch * 2 ** (levels - 1)
    for side in size:
        if side % smallest:
            raise SteerError(f"size {size[1]}x{size[0]} does not fit: expected multiples of {smallest}; give --size")
    if widths[-1] < HEAD:
        raise SteerError(f"widths end with {widths[-1]}, expected at least {HEAD} where the attention is")
    down = ("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",)
    return {
        "sample_size": size[0] // patch, "in_channels": 6 * patch**2, "out_channels": 6 * patch**2,
        "block_out_channels": widths, "layers_per_block": 1, "down_block_types": down,
        "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1), "norm_num_groups": 16,
        "attention_head_dim": HEAD, "add_attention": False,
    }  # fmt: skip


def _sheet(model: SymmFlowModel, data: Labelled, path: Path, batch: int) -> dict[str, float]:
    """Draw and infer held-out scenes, as many at once as are trained on, measure both and picture some."""
    config, steps = model.config, 10
    images, labels = data.batch(np.random.default_rng(1), 64, "eval")
    pixels, targets = to_pixels(images) / 2 + 0.5, torch.from_numpy(labels)
    noise = torch.Generator().manual_seed(1)
    shape = (len(pixels), *model.half_shape)
    device = next(model.parameters()).device
    measured: dict[str, float] = {}
    found = targets
    for count in (1, 5):
        draws = torch.randn(shape, generator=noise).to(device)
        parts = zip(pixels.split(batch), draws.split(batch), strict=True)
        found = torch.cat([infer.infer(model, p.to(device), d, steps=count).argmax(dim=1).cpu() for p, d in parts])
        measured[f"accuracy_{count}"] = float((found == targets).float().mean())
        if config.kind == "masks":
            iou = infer.intersection_over_union(found, targets, len(config.labels))
            measured[f"miou_{count}"] = float(iou.nanmean())
    shown = 16
    draws = torch.randn((len(targets[:shown]), *model.half_shape), generator=noise).to(device)
    drawn = torch.cat([
        infer.draw(model, infer.half_of(model, t.to(device)), d, steps=steps).cpu()
        for t, d in zip(targets[:shown].split(batch), draws.split(batch), strict=True)
    ])  # fmt: skip
    sheet_of(config, pixels[:shown], targets[:shown], found[:shown], drawn).save(path)
    return measured


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or any(width < 16 or width % 16 for width in widths):
        raise SteerError(f"widths {text!r}: expected multiples of 16 such as 64,96,128")
    return widths


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, height = parse_size(text)
    if not (width and height):
        raise SteerError(f"size {text!r}: expected WIDTHxHEIGHT above 0")
    return height, width
