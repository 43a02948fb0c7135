"""``steer train text``."""

import click

from steer.training import TrainingOptions, option, training_options
from steer_text.data import DEFAULT


@click.command("text")
@option(
    "--data",
    str,
    DEFAULT,
    "Sentences: a registered source or a text file with one per line; repeatable.",
    multiple=True,
    metavar="NAME[:SHARE]",
)
@option("--length", click.IntRange(4, 4096), 24, "Tokens per sequence.")
@option("--width", click.IntRange(32), 128, "Width of the transformer.")
@option("--layers", click.IntRange(1), 4, "Layers of the transformer.")
@training_options(out="runs/text", steps=1500, batch=64, rate=2e-3, ema=0.998, device="cpu", threads=1)
def command(given: TrainingOptions, data: tuple[str, ...], length: int, width: int, layers: int) -> None:
    """Train a masked-diffusion model of sentences from scratch."""
    # imported here: `steer --help` should not wait for torch
    from steer.plugin import Bar
    from steer.training import RunFolder, fit, start
    from steer_text.train.task import Recipe, TextTask

    run = RunFolder(given.out, resume=given.resume)
    machine = start(given.precision, given.device, given.threads, shard=given.shard)
    precision = machine.mixed_precision
    recipe = Recipe(data=data, length=length, width=width, layers=layers, precision=precision, **given.recipe)
    task = TextTask(recipe, machine)
    run.begin(task.name, recipe, words=task.words)
    fit(task, recipe, run, machine, watch=given.watch, display=Bar("text", lines=True))
    model = task.export(run.path / "model")
    if machine.is_main_process:
        click.echo(f"{model}: steer generate -m text:{model}")
