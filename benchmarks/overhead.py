"""Overhead of the loop: wall time of a steered run over the sum of the bare forwards that it makes, and memory.

    python benchmarks/overhead.py [--prompts 8] [--particles 4] [--repeats 5] [--scaling] [--profile] [--json]

Bare forwards are the denoiser, the decoder and the reward at the batch sizes and counts of the steered run, called
in a plain loop. Both are timed in turn, and the ratio of their medians is reported. Peak memory is the process's own,
each population in a process of its own, at a fixed chunk. ``--scaling`` fits log-log slopes of time in particles,
prompts and steps, and of memory in particles; ``--profile`` lists the time of a run outside of the
three forwards. ``--clock cpu`` times the processor instead of the wall, for machines that do other work.
"""

import cProfile
import json
import pstats
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import click
import numpy as np
import torch

from steer import Sampler
from steer.prompts.prompt import as_prompts
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward
from steer.rewards.combinations import WeightedSum
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer.sampling.run import Run

COLORS = ("red", "blue", "green", "yellow")
SHAPES = ("circle", "square", "triangle", "star")
MEMORY_PARTICLES = (4, 16, 64)
MEMORY_CHUNK = 4


def prompts(count: int) -> list[str]:
    """Return ``count`` prompts of the embedded grammar."""
    return [f"a {COLORS[i % 4]} {SHAPES[i // 4 % 4]}" for i in range(count)]


def load_reward(sampler: Sampler) -> WeightedSum | None:
    """Load the embedded CLIP; loading is no part of a run."""
    return make_reward(["clip:shapes"], {}, manager(), sampler.backbone.device)


def steered(sampler: Sampler, reward: WeightedSum | None, count: int, particles: int, steps: int, chunk: int) -> Run:
    """Run FK steering once and return the run with its costs."""
    run = make_run(
        sampler.backbone,
        as_prompts(prompts(count)),
        settings={"particles": particles, "steps": steps, "chunk": chunk},
        defaults=sampler.model.defaults,
        methods=make_methods(["fk"], {}, manager()),
        reward=reward,
    )
    run.search()
    return run


def bare(sampler: Sampler, run: Run, chunk: int) -> None:
    """Make the forwards that a run has made, and nothing else."""
    backbone, rows = sampler.backbone, torch.zeros(chunk, dtype=torch.int64)
    conditioning = run.encode().rows(rows)
    x = torch.randn(chunk, *run.latent_shape, device=backbone.device)
    timestep = run.process().timestep
    names = [run.jobs[0].prompt] * chunk
    evaluations = conditioning.evaluations
    with torch.no_grad():
        for _ in range((run.cost.nfe + run.cost.padding) // (evaluations * chunk)):
            backbone.predict("base", x, timestep, conditioning)
        for _ in range(-(-run.cost.reward_calls // chunk)):
            image = backbone.decode(x)
            assert run.reward is not None
            run.reward(image, names)


def timed(function: Any, *arguments: Any, clock: Any = time.perf_counter) -> tuple[float, Any]:
    """Return seconds and result of a call, the device's queue included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    result = function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start, result


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    """Return the least-squares slope of log value over log size: 1 is proportional, 0 constant."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def scaling(sampler: Sampler, reward: WeightedSum | None, chunk: int, clock: Any) -> dict[str, Any]:
    """Return seconds by size, and their slopes, when one of particles, prompts and steps grows."""
    found: dict[str, Any] = {}
    for name, sizes in (("particles", (4, 8, 16)), ("prompts", (4, 8, 16)), ("steps", (8, 16, 32))):
        seconds = []
        for size in sizes:
            chosen = {"prompts": 4, "particles": 4, "steps": 8, name: size}
            arguments = (chosen["prompts"], chosen["particles"], chosen["steps"], chunk)
            seconds.append(timed(steered, sampler, reward, *arguments, clock=clock)[0])
        found[name] = {
            "sizes": sizes,
            "seconds": [round(s, 3) for s in seconds],
            "slope": round(slope(sizes, seconds), 3),
        }
    return found


def profiled(
    sampler: Sampler, reward: WeightedSum | None, count: int, particles: int, steps: int, chunk: int
) -> list[str]:
    """Return a run's time: the three forwards together, then functions by their own time."""
    profile = cProfile.Profile()
    profile.runcall(steered, sampler, reward, count, particles, steps, chunk)
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in table.values())
    forwards = sum(
        whole for (file, _, name), (_, _, _, whole, _) in table.items()
        if (name in ("predict", "decode") and file.endswith("families/sd.py")) or
        (name == "__call__" and file.endswith("rewards/combinations.py"))
    )  # fmt: skip
    ours = [
        (own, f"{file.rpartition('/')[2]}:{name}") for (file, _, name), (_, _, own, _, _) in table.items()
        if "/steer/" in file or "/steer_" in file
    ]  # fmt: skip
    lines = [f"forwards {forwards:.3f} s of {total:.3f} s"]
    return lines + [f"{own:.4f} s in {where}" for own, where in sorted(ours, reverse=True)[:15]]


def peak_megabytes(particles: int, steps: int) -> float:
    """Return the peak resident memory of a fresh process that steers one prompt with ``particles``."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import overhead, steer; "
        "sampler = steer.Sampler('shapes', device='cpu'); "
        f"overhead.steered(sampler, overhead.load_reward(sampler), 1, {particles}, {steps}, {MEMORY_CHUNK}); "
        "print(overhead.max_rss())"
    )
    folder = __file__.rsplit("/", 1)[0]
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def max_rss() -> float:
    """Return this process's peak resident memory in MB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024)


@click.command()
@click.option("--prompts", "count", default=8, show_default=True)
@click.option("--particles", default=4, show_default=True)
@click.option("--steps", default=30, show_default=True)
@click.option("--chunk", default=4, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--scaling", "scales", is_flag=True, help="Also slopes of time in particles, prompts and steps.")
@click.option("--profile", is_flag=True, help="Also the time outside of the forwards, by function.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Also peak memory, in separate processes.")
@click.option("--clock", type=click.Choice(("wall", "cpu")), default="wall", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    count: int, particles: int, steps: int, chunk: int, repeats: int, scales: bool, profile: bool, memory: bool,
    clock: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure the loop's overhead and its memory."""
    tick = time.process_time if clock == "cpu" else time.perf_counter
    sampler = Sampler("shapes")
    reward = load_reward(sampler)
    run = steered(sampler, reward, count, particles, steps, chunk)
    bare(sampler, run, chunk)
    loops, forwards = [], []
    for _ in range(repeats):
        loops.append(timed(steered, sampler, reward, count, particles, steps, chunk, clock=tick)[0])
        forwards.append(timed(bare, sampler, run, chunk, clock=tick)[0])
    ratio = statistics.median(loops) / statistics.median(forwards)
    data: dict[str, Any] = {
        "device": str(sampler.backbone.device),
        "prompts": count,
        "particles": particles,
        "steps": steps,
        "chunk": chunk,
        "seconds_steered": [round(s, 3) for s in loops],
        "seconds_bare": [round(s, 3) for s in forwards],
        "ratio": round(ratio, 4),
        "clock": clock,
    }
    if memory:
        peaks = {k: peak_megabytes(k, steps) for k in MEMORY_PARTICLES}
        data["peak_mb"] = {k: round(megabytes) for k, megabytes in peaks.items()}
        data["peak_slope"] = round(slope(MEMORY_PARTICLES, list(peaks.values())), 3)
    if scales:
        data["scaling"] = scaling(sampler, reward, chunk, tick)
    if profile:
        data["profile"] = profiled(sampler, reward, count, particles, steps, chunk)
    if as_json:
        click.echo(json.dumps(data, indent=1))
        return
    click.echo(f"steered {statistics.median(loops):.3f} s, bare forwards {statistics.median(forwards):.3f} s")
    click.echo(f"ratio {ratio:.3f} ({count} prompts x {particles} particles, {steps} steps, chunk {chunk})")
    for particles_, megabytes in data.get("peak_mb", {}).items():
        click.echo(f"peak memory at {particles_} particles, chunk {MEMORY_CHUNK}: {megabytes} MB")
    for name, values in data.get("scaling", {}).items():
        click.echo(f"{name} {values['sizes']}: {values['seconds']} s, log-log slope {values['slope']}")
    for line in data.get("profile", ()):
        click.echo(line)


if __name__ == "__main__":
    main()
