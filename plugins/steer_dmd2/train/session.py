"""A whole run: prepare, train, export."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from steer import Prompt, SteerError
from steer.plugin import Plugins, check_modalities, check_names, make_reward
from steer.training import Display, RunFolder, Watch, fit, start
from steer_dmd2.train import data as datasets
from steer_dmd2.train import pairs as pairing
from steer_dmd2.train.export import export
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.task import DMD2Task, start_of
from steer_dmd2.train.teacher import Teacher


def train(
    recipe: Recipe,
    out: Path,
    plugins: Plugins,
    *,
    resume: bool,
    display: Display,
    watch: Watch,
    prompts: Sequence[Prompt] = (),
    column: str | None = None,
    reward: str | None = None,
    scenes: int = 16_384,
    device: str | None = None,
    threads: int | None = None,
    shard: bool = False,
) -> Path:
    """Train a student into ``out``; return the folder ``out/student``.

    Args:
        recipe: of the run; a guidance of 0 becomes the model's own.
        resume: whether ``out`` holds a run to continue.
        watch: steps between checkpoints, sheets and rows of the log.
        prompts: what the sheets show; by default captions of the data.
        column: the column or key of the data that holds the prompts.
        reward: an expression that scores the sheets' samples; it does not change the weights.
        scenes: images to draw from a registered data source.
        device, threads, shard: see :func:`steer.training.start`.

    Raises:
        SteerError: before training, if recipe, data and teacher contradict each other.
    """
    recipe.check()
    run = RunFolder(out, resume=resume)
    if reward:
        check_names([], [reward], {}, plugins)
        check_modalities([reward], "image", {}, plugins, who="the student makes")
    trunk = _trunk(recipe.pixel_gan_trunk, plugins)
    machine = start(recipe.precision, device, threads, shard=shard)
    say = display.say if machine.is_main_process else lambda text: None
    recipe = replace(recipe, precision=machine.mixed_precision)
    half = recipe.precision == "bf16" and machine.device.type != "cpu"  # a CPU's own memory is larger than its caches
    teacher = Teacher(
        recipe.teacher,
        plugins,
        device=str(machine.device),
        dtype="bf16" if half else "fp32",
        width=recipe.width,
        height=recipe.height,
    )
    if not recipe.guidance_scale:
        own = teacher.model.defaults.get("guidance_scale", teacher.backbone.default_guidance)
        recipe = replace(recipe, guidance_scale=float(own))
    teacher.guidance_scale = recipe.guidance_scale
    _check_timesteps(recipe, len(teacher.schedule))
    run.check("dmd2", recipe)
    # a resumed run takes the student from its checkpoint
    begin = None if recipe.start is None or run.checkpoint.is_file() else start_of(recipe.start, teacher)
    scorer = make_reward([reward], {}, plugins, teacher.device) if reward else None
    say(f"{recipe.teacher}: data {recipe.data}")
    with machine.main_process_first():
        data = datasets.load(
            recipe.data,
            plugins,
            teacher.encode_images,
            teacher.size,
            out / "latents.safetensors",
            model=recipe.teacher,
            scenes=scenes,
            seed=recipe.seed,
            column=column,
        )
    _check_data(recipe, data)
    run.begin("dmd2", recipe)
    pairs = None
    if recipe.pairs:
        pairs = pairing.make(
            teacher,
            data.captions,
            out / "pairs",
            count=recipe.pairs,
            steps=recipe.pair_steps,
            guidance_scale=recipe.guidance_scale,
            seed=recipe.seed,
            machine=machine,
            progress=lambda done: say(f"pairs {done}/{recipe.pairs}"),
        )
    teacher.encode_first(data.captions)
    task = DMD2Task(
        recipe, teacher, data, machine, pairs=pairs, start=begin, trunk=trunk, prompts=prompts, reward=scorer
    )
    fit(task, recipe, run, machine, watch=watch, display=display)
    folder = out / "student"
    export(task, folder)
    machine.wait_for_everyone()
    return folder


def _check_timesteps(recipe: Recipe, length: int) -> None:
    times = recipe.timesteps
    if list(times) != sorted(set(times), reverse=True) or not 0 < times[-1] <= times[0] < length:
        raise SteerError(f"--timesteps {times}: expected distinct timesteps in 1..{length - 1}, highest first")


def _trunk(name: str | None, plugins: Plugins) -> Callable[[], nn.Module] | None:
    if name is None:
        return None
    known = plugins.registry.data_of("image features")
    if name not in known:
        raise SteerError(f"--pixel-gan-trunk {name!r}: expected known image features ({', '.join(known) or 'none'})")
    found: Callable[[], nn.Module] = known[name].load()
    return found


def _check_data(recipe: Recipe, data: datasets.Dataset) -> None:
    if data.mean is not None:
        return
    for option, weight in (("--gan", recipe.gan), ("--pixel-gan", recipe.pixel_gan)):
        if weight and not recipe.pairs:
            raise SteerError(
                f"data {recipe.data!r} has captions only, and the GAN needs images: give a folder of images, set "
                f"--pairs to use the teacher's samples instead, or {option} 0"
            )
    if not recipe.simulate and len(recipe.timesteps) > 1 and not recipe.pairs:
        raise SteerError(f"--no-simulate needs images, and data {recipe.data!r} has captions only")
