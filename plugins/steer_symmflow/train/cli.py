"""``steer train symmflow``."""

from dataclasses import asdict, replace

import click

from steer import SteerError
from steer.training import TrainingOptions, option, positive, training_options

HEAD = 32
"""Channels of an attention head."""


@click.command()
@option("--data", str, None, "Known data, torchvision:CLASS:FOLDER, or a folder.", required=True, metavar="NAME|FOLDER")
@option("--size", str, None, "Resize images.", metavar="WxH")
@option(
    "--init",
    str,
    None,
    "Model to start from: a Stable Diffusion (its channels are doubled) or a flow of other data.",
    metavar="FOLDER|ID|symmflow:NAME",
)
@option("--widths", str, "64,96,128", "Channels of the U-Net's levels.", metavar="C,C,…")
@option("--patch", click.IntRange(1), 2, "Side in pixels of the blocks that become channels.")
@option("--beta", float, None, "Width of the labels' dequantization.", "6 for masks, 4 for classes", callback=positive)
@option("--image-weight", click.FloatRange(0, 1), 0.5, "Weight of the image in the loss; the rest is for the labels.")
@option("--late", click.FloatRange(0, 1), 0.1, "Share of training times set to exactly t=1, where inference begins.")
@option(
    "--shift", float, 1.0, "Above 1, more times in training, and steps in drawing, where the image is mostly noise.",
    callback=positive,
)  # fmt: skip
@training_options(steps=3000, batch=32, rate=1e-3, ema=0.999, precision="auto")
def command(
    given: TrainingOptions,
    data: str,
    size: str | None,
    init: str | None,
    widths: str,
    patch: int,
    beta: float | None,
    image_weight: float,
    late: float,
    shift: float,
) -> None:
    """Train a symmetric flow on images with masks or classes.

    Data is a known name, torchvision:CLASS:FOLDER, or a folder. A folder has images/, masks/ and labels.json, or a
    subfolder per class, or a metadata.csv with the columns file_name and label. --widths and --patch apply to training
    from scratch.
    """
    # imported here: help should not wait for torch
    import torch

    from steer.plugin import Bar, manager, quiet_libraries
    from steer.training import RunFolder, fit, start
    from steer_symmflow.model import SymmFlowConfig, SymmFlowModel, begun_from, find, load
    from steer_symmflow.stable_diffusion import doubled, on_base
    from steer_symmflow.train.data import open_data
    from steer_symmflow.train.task import FlowTask, Recipe

    quiet_libraries()
    run = RunFolder(given.out, resume=given.resume)
    _check_source(init)
    images = open_data(data, _size(size), manager())
    beta = beta if beta is not None else (6.0 if images.kind == "masks" else 4.0)
    config = SymmFlowConfig(images.kind, images.labels, images.size, images.colors, beta, shift=shift)
    machine = start(given.precision, given.device, given.threads, shard=given.shard)
    recipe = Recipe(
        **given.recipe, image_weight=image_weight, late=late, shift=shift, precision=machine.mixed_precision
    )
    recipe = replace(recipe, warmup=min(100, recipe.steps // 10))
    torch.manual_seed(recipe.seed)
    if init is None:
        unet = unet_config(_widths(widths), patch, images.size)
        model = SymmFlowModel(replace(config, patch=patch, unet=unet))
    elif init.startswith("symmflow:"):
        model = begun_from(load(find(init)), config)
    else:
        model = doubled(*on_base(init, config))
    facts = asdict(model.config)
    facts.pop("shift")  # which the recipe has
    run.begin("symmflow", recipe, **facts)
    task = FlowTask(model, images, recipe, machine)
    fit(task, recipe, run, machine, watch=given.watch, display=Bar("symmflow", lines=True))
    trained = task.averaged()  # by all processes: shares are gathered
    if machine.is_main_process:
        folder = run.path / "model"
        trained.save(folder)
        click.echo(f"model: {folder} (steer generate --model symmflow:{folder})")


def _check_source(init: str | None) -> None:
    """Raise if options of a new network were typed beside one to start from."""
    context = click.get_current_context()
    for name in ("widths", "patch"):
        if init is not None and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise SteerError(f"got --{name} beside --init, whose network has its own; leave one of the two out")


def unet_config(widths: tuple[int, ...], patch: int, size: tuple[int, int]) -> dict[str, object]:
    """Return the configuration of a pixel-space U-Net with attention at its lowest level only."""
    levels = len(widths)
    smallest = patch * 2 ** (levels - 1)
    for side in size:
        if side % smallest:
            raise SteerError(f"size {size[1]}x{size[0]} does not fit: expected multiples of {smallest}; give --size")
    if widths[-1] < HEAD:
        raise SteerError(f"widths end with {widths[-1]}, expected at least {HEAD} because its level has attention")
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
    from steer.plugin import parse_size

    width, height = parse_size(text)
    if not (width and height):
        raise SteerError(f"size {text!r}: expected WIDTHxHEIGHT above 0")
    return height, width
