"""``steer train shapes``: train the embedded models from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

STAGES = ("autoencoder", "t2i", "clip", "detector")


@click.command("shapes")
@click.option(
    "--stage",
    type=click.Choice(("all", *STAGES)),
    default="all",
    show_default=True,
    help="Which stage to train; t2i and clip need a finished autoencoder in --out.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/shapes"),
    show_default=True,
    help="Folder for checkpoints, logs, sample sheets and the exported weights.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed.")
@click.option("--steps", type=click.IntRange(1), help="Steps, instead of the recipe's own.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints in --out.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads.")
def command(stage: str, out: Path, seed: int, steps: int | None, resume: bool, threads: int) -> None:
    """Train the shapes models: autoencoder, text-to-image, CLIP and detector."""
    # Imported here: `steer --help` should not wait for torch.
    import torch

    from steer.training import check_begins

    from . import stages

    torch.set_num_threads(threads)
    chosen = STAGES if stage == "all" else (stage,)
    for name in chosen:
        checkpoint = out / f"{name}.pt"
        check_begins(checkpoint, resume=resume and checkpoint.exists())  # a stage that is not there yet begins
    for name in chosen:
        recipe, run = stages.RECIPES[name], stages.RUNNERS[name]
        if steps is not None:
            recipe = replace(recipe, steps=steps)
        checkpoint = run(recipe, out, seed, resume)
        click.echo(f"{name}: {recipe.steps} steps done, {checkpoint}")
