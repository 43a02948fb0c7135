"""``steer train text``."""

from __future__ import annotations

from pathlib import Path

import click

from steer_text.data import DEFAULT


@click.command("text")
@click.option(
    "--data",
    multiple=True,
    metavar="NAME[:SHARE]",
    default=DEFAULT,
    show_default=True,
    help="Sentences: a registered source or a text file with one a line; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/text"),
    show_default=True,
    help="Folder for checkpoint, log and the trained model.",
)
@click.option("--steps", type=click.IntRange(1), default=1500, show_default=True, help="Optimiser steps.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Sequences a step.")
@click.option("--length", type=click.IntRange(4, 4096), default=24, show_default=True, help="Tokens a sequence.")
@click.option("--width", type=click.IntRange(32), default=128, show_default=True, help="Width of the transformer.")
@click.option("--layers", type=click.IntRange(1), default=4, show_default=True, help="Layers of the transformer.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True, help="Learning rate.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
def command(
    data: tuple[str, ...], out: Path, steps: int, batch: int, length: int, width: int, layers: int, rate: float,
    seed: int, resume: bool, threads: int,
) -> None:  # fmt: skip
    """Train a masked-diffusion model of sentences, from nothing."""
    # imported here: `steer --help` should not wait for torch
    import torch

    from steer_text.train.trainer import Recipe, Trainer

    torch.set_num_threads(threads)
    recipe = Recipe(data, length, width, layers, steps, batch, rate, seed=seed)
    model = Trainer(recipe, out, resume=resume, tell=lambda line: click.echo(line, err=True)).run()
    click.echo(f"{model}: steer generate -m text:{model}")
