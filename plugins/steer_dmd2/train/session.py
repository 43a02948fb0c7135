"""A whole run: prepare, train, log, keep, validate, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from steer import Prompt, SteerError
from steer.plugin import Plugins, WeightedSum, check_modalities, check_names, make_reward
from steer_dmd2.train import data as datasets
from steer_dmd2.train import pairs as pairing
from steer_dmd2.train import report
from steer_dmd2.train.export import export
from steer_dmd2.train.recipe import Recipe, check_recipe, check_resumes, keep
from steer_dmd2.train.teacher import Teacher
from steer_dmd2.train.trainer import Trainer, start_of, steps_left

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Watch:
    """What is kept and looked at on the way; none of it changes the result.

    Attributes:
        save_every, sheet_every, log_every: steps between checkpoints, validations and log rows.
        prompts: what validation draws; by default captions of the data.
        reward: an expression that scores validation samples.
        scenes: images drawn of a registered data source.
    """

    save_every: int = 250
    sheet_every: int = 250
    log_every: int = 10
    prompts: Sequence[Prompt] = ()
    reward: str | None = None
    scenes: int = 16_384


def run(
    recipe: Recipe, out: Path, plugins: Plugins, watch: Watch, *,
    resume: bool, device: str | None, tell: Callable[[str], None],
) -> Path:  # fmt: skip
    """Train a student into ``out``; return the folder ``out/student``.

    Raises:
        SteerError: before anything is computed, for whatever of recipe, data and teacher does not fit together.
    """
    _check_options(recipe)
    check_resumes(out, resume=resume)
    if watch.reward:
        check_names([], [watch.reward], {}, plugins)
        check_modalities([watch.reward], "image", {}, plugins, who="the student makes")
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=device == "cpu")
    say = tell if accelerator.is_main_process else _nothing
    where = device if device is not None else str(accelerator.device)
    teacher = Teacher(recipe.teacher, plugins, device=where, width=recipe.width, height=recipe.height)
    if not recipe.guidance_scale:
        own = teacher.model.defaults.get("guidance_scale", teacher.backbone.default_guidance)
        recipe = replace(recipe, guidance_scale=float(own))
    _check_timesteps(recipe, len(teacher.schedule))
    check_recipe(recipe, out)
    checkpoint = out / CHECKPOINT
    resumed = resume and checkpoint.is_file()
    start = None if recipe.start is None or resumed else start_of(recipe.start, teacher)
    reward = make_reward([watch.reward], {}, plugins, teacher.device) if watch.reward else None
    say(f"{recipe.teacher}: data {recipe.data}")
    with accelerator.main_process_first():
        data = datasets.load(
            recipe.data, plugins, teacher.encode_images, teacher.size, out / "latents.safetensors",
            model=recipe.teacher, scenes=watch.scenes, seed=recipe.seed,
        )  # fmt: skip
    _check_data(recipe, data)
    if accelerator.is_main_process:
        keep(recipe, out)
    pairs = None
    if recipe.pairs:
        with accelerator.main_process_first():
            pairs = pairing.make(
                teacher, data.captions, out / "pairs", count=recipe.pairs, steps=recipe.pair_steps,
                guidance_scale=recipe.guidance_scale, seed=recipe.seed, autocast=accelerator.autocast,
                progress=lambda done: say(f"pairs {done}/{recipe.pairs}"),
            )  # fmt: skip
    trainer = Trainer(recipe, teacher, data, accelerator, pairs, start)
    if resumed:
        before, now = trainer.load(checkpoint), accelerator.num_processes
        if before != now:
            say(f"{before} processes before, {now} now: the batches from here on are not an unbroken run's")
    prompts = list(watch.prompts) or [
        Prompt(text, id=str(i)) for i, text in enumerate(dict.fromkeys(data.captions[:64]))
    ]
    log = report.Log(out, first=trainer.done) if accelerator.is_main_process else None
    began, taken = time.monotonic(), 0
    for _ in steps_left(trainer):
        values = trainer.step()
        taken += 1
        done, last = trainer.done, trainer.done == recipe.total
        if log is None:
            continue
        if done % watch.log_every == 0 or last:
            rate = (time.monotonic() - began) / taken
            log.note(done, phase=recipe.phase(done - 1), seconds_a_step=round(rate, 3), **values)
            say(f"{done}/{recipe.total} {_line(values)} {rate:.2f} s a step")
        if done % watch.save_every == 0 or last:
            trainer.save(checkpoint)
        if done % watch.sheet_every == 0 or last:
            figures = _validate(trainer, prompts, reward, out, log)
            say(f"{done}/{recipe.total} validation {_line(figures)}")
    folder = out / "student"
    if accelerator.is_main_process:
        export(trainer, folder)
    accelerator.wait_for_everyone()
    return folder


def _validate(
    trainer: Trainer, prompts: Sequence[Prompt], reward: WeightedSum | None, out: Path, log: report.Log
) -> dict[str, float]:
    trainer.averaged()
    done, timesteps = trainer.done, trainer.recipe.timesteps
    images = report.sample(trainer.teacher, "averaged", timesteps, prompts, trainer.accelerator.autocast)
    path = out / "sheets" / f"{done:06d}.png"
    figures = report.validate(images, prompts, reward, path)
    log.note(done, **figures)
    log.show(done, path, images)
    return figures


def _line(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())


def _nothing(text: str) -> None:
    """Say nothing: the first process speaks for all."""


def _check_options(recipe: Recipe) -> None:
    """Raise for options that contradict each other, whatever the teacher."""
    steps = len(recipe.timesteps)
    if recipe.batch % steps:
        near = max(1, recipe.batch // steps) * steps
        raise SteerError(f"--batch {recipe.batch}: expected a multiple of the student's {steps} steps, such as {near}")
    if recipe.warmup and not recipe.pairs:
        raise SteerError("--warmup trains on pairs of the teacher; set --pairs as well")
    if recipe.lora and recipe.start is not None:
        raise SteerError(
            "--lora with --start: a LoRA is kept alone, for the teacher's own weights, and what the earlier student "
            "learnt would be lost; leave one of the two out"
        )


def _check_timesteps(recipe: Recipe, length: int) -> None:
    times = recipe.timesteps
    if list(times) != sorted(set(times), reverse=True) or not 0 < times[-1] <= times[0] < length:
        raise SteerError(f"--timesteps {times}: expected distinct ones in 1..{length - 1}, highest first")


def _check_data(recipe: Recipe, data: datasets.Dataset) -> None:
    if data.mean is not None:
        return
    if recipe.gan and not recipe.pairs:
        raise SteerError(
            f"data {recipe.data!r} has captions only, and the GAN needs images: give a folder of images, set --pairs "
            "to take the teacher's samples for them, or --gan 0"
        )
    if not recipe.simulate and len(recipe.timesteps) > 1 and not recipe.pairs:
        raise SteerError(f"--no-simulate needs images, and data {recipe.data!r} has captions only")
