"""``steer train shapes``: train the embedded models from scratch."""

from dataclasses import replace

import click

from steer.training import TrainingOptions, option, training_options

STAGES = ("autoencoder", "t2i", "preview", "clip", "detector", "t2v")


@click.command("shapes")
@option(
    "--stage",
    click.Choice(("all", *STAGES)),
    "all",
    "Stage to train, in a folder of its name in --out; t2i and clip need a finished autoencoder there.",
)
@training_options(out="runs/shapes", precision="auto", device="cpu", threads=2, own="the stage's own")
def command(given: TrainingOptions, stage: str) -> None:
    """Train the shapes models: autoencoder, text-to-image, preview decoder, CLIP, detector and
    text-to-video.

    --resume continues the stages that have begun and starts the others.
    """
    # Imported here, so that `steer --help` does not wait for torch.
    from steer.plugin import Bar
    from steer.training import RunFolder, older_run, start

    from . import stages

    runs = {}
    for name in STAGES if stage == "all" else (stage,):
        if (given.out / f"{name}.pt").exists():
            raise older_run(given.out)
        folder = given.out / name
        runs[name] = RunFolder(folder, resume=given.resume and folder.exists())
    machine = start(given.precision, given.device, given.threads, shard=given.shard)
    for name, run in runs.items():
        recipe = replace(stages.RECIPES[name], **given.recipe, precision=machine.mixed_precision)
        stages.train(name, recipe, run, machine, watch=given.watch, display=Bar(name, lines=True))
        click.echo(f"{name}: {recipe.steps} steps done, {run.path}")
