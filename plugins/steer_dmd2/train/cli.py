"""``steer train dmd2``."""

from __future__ import annotations

from pathlib import Path

import click

from steer import SteerError


@click.command("dmd2")
@click.option("--teacher", required=True, metavar="MODEL", help="Model to distil: a known name, a folder, or a hub id.")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Folder of images with captions, prompt file, or a known source (shapes).",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints, logs, sheets and the student.",
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
    "--steps", type=click.IntRange(1), default=2000, show_default=True, help="Student updates by distribution matching."
)
@click.option("--ratio", type=click.IntRange(1), default=5, show_default=True, help="Critic updates a student update.")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Rows an update and process.")
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Batches an update.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-5,
    show_default=True,
    help="Learning rate of the student.",
)
@click.option(
    "--critic-rate", type=click.FloatRange(0, min_open=True), help="Learning rate of the critic.  [default: --rate]"
)
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
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.99,
    show_default=True,
    help="Decay of the averaged student.",
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
    "--warmup-rate", type=click.FloatRange(0, min_open=True), help="Learning rate of the regression.  [default: --rate]"
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
    "--precision", type=click.Choice(("no", "bf16")), default="no", show_default=True, help="Mixed precision."
)
@click.option("--device", metavar="DEVICE", help="cpu, cuda, …  [default: what accelerate chooses]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--save-every", type=click.IntRange(1), default=250, show_default=True, help="Steps between checkpoints.")
@click.option(
    "--sheet-every", type=click.IntRange(1), default=250, show_default=True, help="Steps between validations."
)
@click.option(
    "--log-every", type=click.IntRange(1), default=10, show_default=True, help="Steps between rows of the log."
)
@click.option(
    "--validate",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Prompt file to validate on.  [default: captions of the data]",
)
@click.option("--reward", metavar="EXPR", help="Reward that scores validation samples.")
def command(
    teacher: str, data: str, out: Path, student_steps: int | None, timesteps: str | None, guidance: float | None,
    size: str | None, critic_rate: float | None, warmup_rate: float | None, rate: float, threads: int | None,
    device: str | None, resume: bool, save_every: int, sheet_every: int, log_every: int, validate: Path | None,
    reward: str | None, scenes: int, **rest: object,
) -> None:  # fmt: skip
    """Distil a model into a one- or few-step student (DMD2, arXiv 2405.14867).

    Run it under `accelerate launch -m steer train dmd2 …` for several GPUs. The student's folder, OUT/student, goes
    into `steer generate --plugin dmd2 -o dmd2.student=OUT/student`.
    """
    import torch

    from steer import read_prompts
    from steer.plugin import manager, parse_size, quiet_libraries
    from steer_dmd2.train.recipe import DEFAULT_TIMESTEPS, Recipe
    from steer_dmd2.train.session import Watch, run

    quiet_libraries()
    if threads is not None:
        torch.set_num_threads(threads)
    times = _timesteps(timesteps) if timesteps is not None else DEFAULT_TIMESTEPS.get(student_steps or 4)
    if times is None:
        raise SteerError(f"there are no published timesteps for --student-steps {student_steps}; give --timesteps")
    if student_steps is not None and len(times) != student_steps:
        raise SteerError(
            f"--timesteps names {len(times)} timesteps, --student-steps is {student_steps}; name as many, or leave "
            "--student-steps out"
        )
    plugins = manager()
    width, height = (None, None) if size is None else parse_size(size)
    recipe = Recipe(
        teacher=teacher, data=data, timesteps=times, width=width, height=height, rate=rate,
        guidance_scale=guidance or 0.0,
        critic_rate=critic_rate or rate, warmup_rate=warmup_rate or rate, **rest,  # type: ignore[arg-type]
    )  # fmt: skip
    watch = Watch(save_every, sheet_every, log_every, tuple(read_prompts(validate)) if validate else (), reward, scenes)
    folder = run(
        recipe, out, plugins, watch, resume=resume, device=device, tell=lambda text: click.echo(text, err=True)
    )
    click.echo(str(folder))


def _timesteps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SteerError(f"--timesteps {text!r}: expected whole numbers, such as 999,749,499,249") from None
