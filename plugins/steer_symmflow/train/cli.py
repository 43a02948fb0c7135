"""``steer train symmflow``."""

from __future__ import annotations

from dataclasses import asdict, replace

import click
import torch

from steer import SteerError
from steer.plugin import Bar, manager, parse_size, quiet_libraries
from steer.training import RunFolder, TrainingOptions, fit, positive, start, training_options
from steer_symmflow.model import SymmFlowConfig, SymmFlowModel, begun_from, find, load
from steer_symmflow.stable_diffusion import doubled, on_base
from steer_symmflow.train.data import open_data
from steer_symmflow.train.task import FlowTask, Recipe

HEAD = 32
"""Channels of an attention head."""


@click.command()
@click.option(
    "--data",
    "data_name",
    required=True,
    metavar="NAME|FOLDER",
    help="Known data, torchvision:CLASS:FOLDER, or a folder.",
)
@click.option("--size", metavar="WxH", help="Resize images.")
@click.option(
    "--init",
    "base",
    metavar="FOLDER|ID|symmflow:NAME",
    help="Start from a Stable Diffusion, its channels doubled, or from a flow of other data.",
)
@click.option(
    "--widths", metavar="C,C,…", default="64,96,128", show_default=True, help="Channels of the U-Net's levels."
)
@click.option(
    "--patch", default=2, show_default=True, type=click.IntRange(1), help="Side of the blocks that become channels."
)
@click.option("--beta", type=float, callback=positive, help="Width of the dequantization; 6 for masks, 4 for classes.")
@click.option("--image-weight", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="w of the loss.")
@click.option(
    "--late",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the times that are t=1 exactly, where inference begins.",
)
@training_options(steps=3000, batch=32, rate=1e-3, ema=0.999, precision="auto")
def command(
    given: TrainingOptions,
    data_name: str,
    size: str | None,
    base: str | None,
    widths: str,
    patch: int,
    beta: float | None,
    image_weight: float,
    late: float,
) -> None:
    """Train a symmetric flow on images with masks or classes.

    Data is a known name, torchvision:CLASS:FOLDER, a folder with images/, masks/ and labels.json, one with a subfolder
    per class, or one with a metadata.csv of file_name,label. --widths and --patch are for training from scratch.
    """
    quiet_libraries()
    run = RunFolder(given.out, resume=given.resume)
    _check_source(base)
    data = open_data(data_name, _size(size), manager())
    beta = beta if beta is not None else (6.0 if data.kind == "masks" else 4.0)
    config = SymmFlowConfig(data.kind, data.labels, data.size, data.colors, beta)
    machine = start(given.precision, given.device, given.threads)
    recipe = Recipe(**given.recipe, image_weight=image_weight, late=late, precision=machine.mixed_precision)
    recipe = replace(recipe, warmup=min(100, recipe.steps // 10))
    torch.manual_seed(recipe.seed)
    if base is None:
        unet = unet_config(_widths(widths), patch, data.size)
        model = SymmFlowModel(replace(config, patch=patch, unet=unet))
    elif base.startswith("symmflow:"):
        model = begun_from(load(find(base)), config)
    else:
        model = doubled(*on_base(base, config))
    run.begin("symmflow", recipe, **asdict(model.config))
    task = FlowTask(model, data, recipe, machine)
    fit(task, recipe, run, machine, watch=given.watch, display=Bar("symmflow", lines=True))
    if machine.is_main_process:
        folder = run.path / "model"
        task.averaged().save(folder)
        click.echo(f"model: {folder} (steer generate --model symmflow:{folder})")


def _check_source(base: str | None) -> None:
    """Raise if options of a new network were typed beside one to start from."""
    context = click.get_current_context()
    for name in ("widths", "patch"):
        if base is not None and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise SteerError(f"got --{name} beside --init, whose network has its own; leave one of the two out")


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
        "sample_size": size[0] // patch,
        "in_channels": 6 * patch**2,
        "out_channels": 6 * patch**2,
        "block_out_channels": widths,
        "layers_per_block": 1,
        "down_block_types": down,
        "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        "norm_num_groups": 16,
        "attention_head_dim": HEAD,
        "add_attention": False,
    }


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
