"""``steer train dmd2``."""

from pathlib import Path
from typing import Any

import click

from steer import SteerError
from steer.training import TrainingOptions, option, positive, training_options


@click.command("dmd2")
@option(
    "--teacher", str, None, "Model to distill: a known name, a folder, or a hub id.", required=True, metavar="MODEL"
)
@option(
    "--data",
    str,
    None,
    "Folder of images with captions, a prompt file, or a known source (shapes).",
    required=True,
    metavar="DATA",
)
@option(
    "--student-steps",
    click.IntRange(1, 64),
    None,
    "Denoising steps of the student.",
    "the number of --timesteps, else 4",
)
@option("--timesteps", str, None, "The student's timesteps, highest first.", "the published ones", metavar="T,…")
@option("--guidance", click.FloatRange(1, 100), None, "Guidance scale of the teacher.", "the model's own")
@option("--start", str, None, "Student to start from.", "the teacher's weights", metavar="FOLDER")
@option("--ratio", click.IntRange(1), 5, "Critic updates per student update.")
@option("--critic-rate", float, None, "Learning rate of the critic.", "--rate", callback=positive)
@option("--gan", click.FloatRange(0), 5e-3, "Weight of the GAN in the student's loss; 0 turns it off.")
@option("--gan-critic", click.FloatRange(0), 1e-2, "Weight of the GAN in the critic's loss.")
@option("--pixel-gan", click.FloatRange(0), 0.0, "Weight of a GAN on decoded images, 1 for that of matching; 0: off.")
@option("--pixel-gan-rate", float, 3e-4, "Learning rate of its discriminator.", callback=positive)
@option(
    "--pixel-gan-trunk", str, None, "Known image features that the discriminator begins from.", "none", metavar="NAME"
)
@option("--simulate/--no-simulate", bool, True, "Train on the student's own inputs (backward simulation).")
@option("--lora", click.IntRange(0, 1024), 0, "Rank of a LoRA to train; 0 trains all weights.")
@option("--critic-lora", click.IntRange(0, 1024), 0, "The same for the critic.")
@option("--warmup", click.IntRange(0), 0, "Initial updates by regression on the teacher's samples.")
@option("--pairs", click.IntRange(0), 0, "Pairs of noise and sample for --warmup.")
@option("--pair-steps", click.IntRange(1), 20, "The teacher's steps per pair.")
@option("--warmup-rate", float, None, "Learning rate of the regression.", "--rate", callback=positive)
@option("--critic-warmup", click.IntRange(0), 0, "Updates of the critic alone, after --warmup.")
@option("--snr-clip", click.FloatRange(0), 0.0, "Min-SNR weighting of the critic's loss; 0 turns it off.")
@option("--scenes", click.IntRange(1), 16_384, "Images to draw from a known source.")
@option("--size", str, None, "Image size in pixels.", "the model's own", metavar="WxH")
@option(
    "--validate",
    click.Path(dir_okay=False, path_type=Path),
    None,
    "Prompt file to validate on.",
    "captions of the data",
    metavar="FILE",
)
@option("--column", str, None, "Column or key of --data and --validate that holds the prompts.", metavar="NAME")
@option("--reward", str, None, "Reward that scores validation samples.", metavar="EXPR")
@training_options(steps=2000, batch=32, rate=1e-5, ema=0.99)
def command(
    given: TrainingOptions,
    student_steps: int | None,
    timesteps: str | None,
    guidance: float | None,
    size: str | None,
    critic_rate: float | None,
    warmup_rate: float | None,
    scenes: int,
    validate: Path | None,
    column: str | None,
    reward: str | None,
    **rest: Any,
) -> None:
    """Distill a model into a one- or few-step student (DMD2, arXiv 2405.14867).

    --steps and --rate apply to the student's updates by distribution matching. For several GPUs, run `accelerate launch
    -m steer train dmd2 …`. Use the result, OUT/student, with `steer generate --plugin dmd2 -o
    dmd2.student=OUT/student`.
    """
    from steer import read_prompts
    from steer.plugin import Bar, manager, parse_size, quiet_libraries
    from steer_dmd2.train.recipe import DEFAULT_TIMESTEPS, Recipe
    from steer_dmd2.train.session import train

    quiet_libraries()
    times = _timesteps(timesteps) if timesteps is not None else DEFAULT_TIMESTEPS.get(student_steps or 4)
    if times is None:
        raise SteerError(f"there are no published timesteps for --student-steps {student_steps}; give --timesteps")
    if student_steps is not None and len(times) != student_steps:
        raise SteerError(
            f"--timesteps names {len(times)} timesteps, but --student-steps is {student_steps}; name as many, or leave "
            "--student-steps out"
        )
    width, height = (None, None) if size is None else parse_size(size)
    recipe = Recipe(
        **given.recipe,
        **rest,
        precision=given.precision,
        timesteps=times,
        width=width,
        height=height,
        guidance_scale=guidance or 0.0,
        critic_rate=critic_rate or given.recipe["rate"],
        warmup_rate=warmup_rate or given.recipe["rate"],
    )
    folder = train(
        recipe,
        given.out,
        manager(),
        resume=given.resume,
        display=Bar("dmd2", lines=True),
        watch=given.watch,
        prompts=tuple(read_prompts(validate, column=column)) if validate else (),
        column=column,
        reward=reward,
        scenes=scenes,
        device=given.device,
        threads=given.threads,
        shard=given.shard,
    )
    click.echo(str(folder))


def _timesteps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SteerError(f"--timesteps {text!r}: expected whole numbers, such as 999,749,499,249") from None
