"""``steer train text``."""

from __future__ import annotations

import click

from steer.training import TrainingOptions, training_options
from steer_text.data import DEFAULT


@click.command("text")
@click.option(
    "--data",
    multiple=True,
    metavar="NAME[:SHARE]",
    default=DEFAULT,
    show_default=True,
    help="Sentences: a registered source or a text file with one per line; repeatable.",
)
@click.option("--length", type=click.IntRange(4, 4096), default=24, show_default=True, help="Tokens per sequence.")
@click.option("--width", type=click.IntRange(32), default=128, show_default=True, help="Width of the transformer.")
@click.option("--layers", type=click.IntRange(1), default=4, show_default=True, help="Layers of the transformer.")
@training_options(out="runs/text", steps=1500, batch=64, rate=2e-3, ema=0.998, device="cpu", threads=1)
def command(given: TrainingOptions, data: tuple[str, ...], length: int, width: int, layers: int) -> None:
    """Train a masked-diffusion model of sentences from scratch."""
    # imported here: `steer --help` should not wait for torch
    from steer.plugin import Bar
    from steer.training import RunFolder, fit, start
    from steer_text.train.task import Recipe, TextTask

    run = RunFolder(given.out, resume=given.resume)
    machine = start(given.precision, given.device, given.threads)
    recipe = Recipe(data=data, length=length, width=width, layers=layers, precision=machine.mixed_precision,
                    **given.recipe)  # fmt: skip
    task = TextTask(recipe, machine)
    run.begin(task.name, recipe, words=task.words)
    fit(task, recipe, run, machine, watch=given.watch, display=Bar("text", lines=True))
    if machine.is_main_process:
        model = task.export(run.path / "model")
        click.echo(f"{model}: steer generate -m text:{model}")
