"""The options that ``steer segment`` and ``steer classify`` share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from steer.plugin import csv_option, json_option

SOLVERS = ("euler", "midpoint", "rk4")
"""Names in :data:`steer_symmflow.flow.SOLVERS`, which imports torch: help should not wait for it."""


def reading_options(model: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the images and the options of inference to a command; ``model`` is the default model."""
    options = (
        click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path)),
        click.option("-m", "--model", default=model, show_default=True, help="symmflow:NAME or symmflow:FOLDER."),
        click.option("--steps", default=5, show_default=True, type=click.IntRange(1), help="Steps of the flow."),
        click.option("--scheduler", default="euler", show_default=True, type=click.Choice(SOLVERS),
                     help="Solver of the flow."),
        click.option("--draws", default=4, show_default=True, type=click.IntRange(1),
                     help="Noise draws; the share that agrees is the confidence."),
        click.option("--seed", default=0, show_default=True, help="Seed of the first draw; draw i has seed + i."),
        click.option("--batch", default=16, show_default=True, type=click.IntRange(1), help="Images per forward pass."),
        click.option("--device", help="cpu, cuda, …; CUDA if available."),
        click.option("--dtype", metavar="fp32|bf16|fp16", help="Precision of the weights."),
        json_option,
        csv_option,
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
