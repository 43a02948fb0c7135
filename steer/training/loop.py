"""The one training loop: seeded by step, resumable to the bit, on one device or many."""

import math
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.render.interrupts import stopping
from steer.training.checkpoints import RunFolder, read_checkpoint, save_checkpoint, unusable
from steer.training.display import Display, Silent
from steer.training.log import Log
from steer.training.machine import Machine, average_gradients, mean_over_processes
from steer.training.recipe import TrainingRecipe, Watch
from steer.training.sharding import clip_gradients
from steer.training.task import Part, Task, Update


def fit(
    task: Task, recipe: TrainingRecipe, run: RunFolder, accelerator: Machine, *, watch: Watch, display: Display
) -> None:
    """Train a task to the end of its recipe; afterward its parts hold the last and the averaged weights.

    Each step makes the task's updates. An update adds up the gradients of ``recipe.accumulate`` micro-batches per
    process, averages them over the processes, clips their norm, steps the part's optimizer and moves its average. N
    processes do the same as one that accumulates N times as many batches.

    A checkpoint is written every ``watch.save_every`` steps, at the end, and at Ctrl-C or SIGTERM, which take effect
    after the step. A resumed run ends with the same weights and the same log as an uninterrupted one.

    Args:
        task: with its networks on ``accelerator.device``.
        recipe: of the run.
        run: the folder, after :meth:`RunFolder.begin`. If it holds a checkpoint, the run is resumed from it, split or
            not.
        accelerator: of :func:`steer.training.start`.
        watch: steps between checkpoints, sheets and log rows.
        display: entered here, on the first process only.

    Raises:
        SteerError: if the checkpoint does not fit, or the training diverges.
        KeyboardInterrupt: when interrupted, after the checkpoint was written.
    """
    for part in task.parts.values():
        part.optimizer = accelerator.prepare_optimizer(part.optimizer)
    main = accelerator.is_main_process
    display = display if main else Silent()
    first, seconds = _resume(task, recipe, run, accelerator.num_processes, display)
    log = Log(run, first=first) if main else None
    began, stop, note = time.monotonic() - seconds, threading.Event(), ""
    with closing(run), stopping(stop, lambda: display.say("stopping after this step")), display:
        for step in range(first, recipe.total):
            values = _step(task, step, recipe, accelerator)
            values = mean_over_processes(accelerator, {**values, "stop": float(stop.is_set())})
            stopped, done = values.pop("stop") > 0, step + 1
            last = done == recipe.total
            if log is not None and (done % watch.log_every == 0 or last):
                phase = task.phase(step)
                row: dict[str, float | str] = {**({} if phase is None else {"phase": phase}), **values}
                log.note(done, seconds=round(time.monotonic() - began, 1), **row)
                note = _text(row)
            if done % watch.save_every == 0 or last or stopped:
                _save(task, run, done, time.monotonic() - began, accelerator)
            if done % watch.sheet_every == 0 or last:
                _measure(task, run, done, log, accelerator, display)
            display.show(done, recipe.total, note=f"{done}/{recipe.total} {note}")
            if stopped and not last:
                accelerator.wait_for_everyone()  # a launcher ends all processes when one ends, even while one writes
                display.say(f"stopped after step {done} of {recipe.total}; resume with --resume")
                raise KeyboardInterrupt
    accelerator.wait_for_everyone()


def _step(task: Task, step: int, recipe: TrainingRecipe, accelerator: Machine) -> dict[str, float]:
    """Make a step's updates; return the last value of each measure."""
    torch.manual_seed(recipe.seed + step)  # for networks with randomness of their own, such as dropout
    values: dict[str, float] = {}
    for update in task.updates(step):
        measured = _update(task.parts[update.part], update, step, recipe, accelerator)
        several = len(task.parts) > 1
        common = {"loss", "rate", "gradient"}
        values |= {f"{update.part}_{k}" if several and k in common else k: v for k, v in measured.items()}
    return values


def _update(part: Part, update: Update, step: int, recipe: TrainingRecipe, accelerator: Machine) -> dict[str, float]:
    for group in part.optimizer.param_groups:
        group["lr"] = update.rate
    part.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for index in range(recipe.accumulate):
        # two processes draw the same as one that accumulates two batches
        losses = update.losses(index * accelerator.num_processes + accelerator.process_index)
        accelerator.backward(losses["loss"] / recipe.accumulate)
        for name, value in losses.items():
            part_of = value.detach() / recipe.accumulate
            sums[name] = sums[name] + part_of if name in sums else part_of
    average_gradients(accelerator, part.parameters)
    accelerator.unscale_gradients(part.optimizer)
    sums["gradient"] = clip_gradients(part.parameters, recipe.clip)
    values = _numbers(sums)
    check_finite(values["loss"], step)
    if accelerator.scaler is None:  # the scaler skips steps whose scaled gradients overflow
        check_finite(values["gradient"], step, "gradient")
    part.optimizer.step()
    part.move_average(step, recipe.ema)
    return {"rate": update.rate, **values}


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return values of one element as numbers; the host waits for a device once for all of them."""
    device = next((value.device for value in values.values() if value.device.type != "cpu"), torch.device("cpu"))
    column = torch.stack([value.to(device, torch.float32) for value in values.values()])
    return dict(zip(values, column.tolist(), strict=True))


def check_finite(value: float, step: int, what: str = "loss") -> None:
    """Raise if a training has diverged.

    Raises:
        SteerError: naming the step and the remedy.
    """
    if not math.isfinite(value):
        raise SteerError(
            f"the {what} of step {step} is not finite: the training has diverged; start over in another --out with a "
            "lower --rate"
        )


def _save(task: Task, run: RunFolder, done: int, seconds: float, accelerator: Machine) -> None:
    parts = {name: part.state() for name, part in task.parts.items()}  # by all processes: shares are gathered
    if accelerator.is_main_process:
        state = {"parts": parts, "step": done, "seconds": seconds, "processes": accelerator.num_processes}
        save_checkpoint(state, run.checkpoint)


def _resume(task: Task, recipe: TrainingRecipe, run: RunFolder, processes: int, display: Display) -> tuple[int, float]:
    """Load the checkpoint, if there is one; return the steps and seconds so far.

    Raises:
        SteerError: if it is of other networks, or has more steps than the recipe.
    """
    if not run.checkpoint.is_file():
        return 0, 0.0
    state = read_checkpoint(run.checkpoint)
    try:
        for name, part in task.parts.items():
            part.load_state(state["parts"][name])
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise unusable(run.checkpoint, error) from None
    done = int(state["step"])
    if done > recipe.total:
        raise SteerError(
            f"the run in {run.path} has taken {done} steps already, of {recipe.total} that were asked for; give "
            f"--steps {done - recipe.total + recipe.steps} or more"
        )
    if state["processes"] != processes:
        before = state["processes"]
        display.say(
            f"{before} processes before, {processes} now: the next batches differ from those of an uninterrupted run"
        )
    return done, float(state["seconds"])


def _measure(task: Task, run: RunFolder, done: int, log: Log | None, accelerator: Machine, display: Display) -> None:
    """Have the first process measure and draw; of split networks all must compute, and the others' sheets are lost."""
    if log is None:
        if accelerator.shards:
            with tempfile.TemporaryDirectory() as folder, torch.no_grad():
                task.sheet(Path(folder) / run.sheet(done).name)
        return
    picture = run.sheet(done)
    picture.parent.mkdir(exist_ok=True)
    with torch.no_grad():
        measured = task.sheet(picture)
    if measured:
        log.note(done, **measured)
        display.say(f"{task.name} after {done} steps: {_text(measured)}")
    log.show(done, picture)


def _text(row: Mapping[str, object]) -> str:
    return " ".join(f"{name} {value:.4g}" if isinstance(value, float) else str(value) for name, value in row.items())
