"""``steer train dmd2``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from steer import SteerError
from steer.training import TrainingOptions, positive, training_options


@click.command("dmd2")
@click.option(
    "--teacher", required=True, metavar="MODEL", help="Model to distill: a known name, a folder, or a hub id."
)
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Folder of images with captions, prompt file, or a known source (shapes).",
)
@click.option(
    "--student-steps",
    type=click.IntRange(1, 64),
    help="Steps that the student will take.  [default: as many as --timesteps names, else 4]",
)
@click.option(
    "--timesteps", metavar="T,…", help="Timesteps of those steps, highest first.  [default: the published ones]"
)
@click.option("--guidance", type=click.FloatRange(1, 100), help="Guidance of the teacher.  [default: the model's own]")
@click.option("--start", metavar="FOLDER", help="Student to begin from, instead of the teacher's weights.")
@click.option(
    "--ratio", type=click.IntRange(1), default=5, show_default=True, help="Critic updates per student update."
)
@click.option("--critic-rate", type=float, callback=positive, help="Learning rate of the critic.  [default: --rate]")
@click.option(
    "--gan",
    type=click.FloatRange(0),
    default=5e-3,
    show_default=True,
    help="Weight of the GAN in the student's loss; 0 is without.",
)
@click.option(
    "--gan-critic",
    type=click.FloatRange(0),
    default=1e-2,
    show_default=True,
    help="Weight of the GAN in the critic's loss.",
)
@click.option(
    "--simulate/--no-simulate",
    default=True,
    show_default=True,
    help="Train on inputs that the student made (backward simulation).",
)
@click.option(
    "--lora",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="Rank of a LoRA to train; 0 trains all weights.",
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Updates by regression on the teacher's samples, first.",
)
@click.option(
    "--pairs", type=click.IntRange(0), default=0, show_default=True, help="Pairs of noise and sample for them."
)
@click.option(
    "--pair-steps", type=click.IntRange(1), default=20, show_default=True, help="The teacher's steps for a pair."
)
@click.option(
    "--warmup-rate", type=float, callback=positive, help="Learning rate of the regression.  [default: --rate]"
)
@click.option(
    "--critic-warmup",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Updates of the critic alone, between.",
)
@click.option(
    "--snr-clip",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Min-SNR weighting of the critic's loss; 0 is without.",
)
@click.option(
    "--scenes", type=click.IntRange(1), default=16_384, show_default=True, help="Images to draw of a known source."
)
@click.option("--size", metavar="WxH", help="Image size in pixels.  [default: the model's own]")
@click.option(
    "--validate",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Prompt file to validate on.  [default: captions of the data]",
)
@click.option("--reward", metavar="EXPR", help="Reward that scores validation samples.")
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
    reward: str | None,
    **rest: Any,
) -> None:
    """Distill a model into a one- or few-step student (DMD2, arXiv 2405.14867).

    --steps and --rate are of the student's updates by distribution matching. Run it under `accelerate launch -m steer
    train dmd2 …` for several GPUs. The student's folder, OUT/student, goes into `steer generate --plugin dmd2 -o
    dmd2.student=OUT/student`.
    """
    from steer import read_prompts
    from steer.plugin import Bar, manager, parse_size, quiet_libraries
    from steer_dmd2.train.recipe import DEFAULT_TIMESTEPS, Recipe
    from steer_dmd2.train.session import Validation, train

    quiet_libraries()
    times = _timesteps(timesteps) if timesteps is not None else DEFAULT_TIMESTEPS.get(student_steps or 4)
    if times is None:
        raise SteerError(f"there are no published timesteps for --student-steps {student_steps}; give --timesteps")
    if student_steps is not None and len(times) != student_steps:
        raise SteerError(
            f"--timesteps names {len(times)} timesteps, --student-steps is {student_steps}; name as many, or leave "
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
        validation=Validation(tuple(read_prompts(validate)) if validate else (), reward),
        scenes=scenes,
        device=given.device,
        threads=given.threads,
    )
    click.echo(str(folder))


def _timesteps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SteerError(f"--timesteps {text!r}: expected whole numbers, such as 999,749,499,249") from None
