"""Our FK steering beside the published implementation's own pipeline class: same model, reward and settings.

    python benchmarks/peers.py --fk-repo PATH [--prompts 1 --prompts 8] [--particles 4] [--repeats 3] [--json]

PATH is a checkout of the FK steering paper's repository (github.com/zacharyhorvitz/Fk-Diffusion-Steering), which is not
part of this one. Its pipeline gets the embedded model, and the embedded CLIP under its own reward's name. Both take
turns. The ratios of each turn are reported, theirs over ours, and the rewards that both reach: the best particle's and
the mean of all, averaged over prompts.
"""

import contextlib
import io
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from overhead import prompts as some_prompts

from steer import Prompt, Sampler
from steer.errors import SteerError
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward

REWARD = "clip:shapes"
LAMBDA = 0.3
INSIDE = Path("text_to_image") / "fkd_diffusers"


def scores(reward: Any, images: Sequence[Any], texts: Sequence[str], device: torch.device) -> list[float]:
    """Return the rewards of PIL images for their prompts."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    found: list[float] = reward(
        pixels.permute(0, 3, 1, 2).float().to(device) / 255, [Prompt(t) for t in texts]
    ).tolist()
    return found


def published(repo: Path, sampler: Sampler, reward: Any) -> Any:
    """Return the published pipeline with our model, its table of rewards replaced by ``reward``."""
    folder = repo / INSIDE
    if not (folder / "fkd_pipeline_sd.py").is_file():
        raise SteerError(f"{repo} is no checkout of the FK steering repository: it has no {INSIDE}/fkd_pipeline_sd.py")

    def get_reward_function(name: str, images: Sequence[Any], prompts: Sequence[str], **_: Any) -> list[float]:
        return scores(reward, images, prompts, sampler.backbone.device)

    # its own imports reward models of hundreds of megabytes when it is loaded
    stand_in = types.ModuleType("rewards")
    stand_in.get_reward_function = get_reward_function  # type: ignore[attr-defined]
    sys.modules["rewards"] = stand_in
    sys.path.insert(0, str(folder))
    from fkd_pipeline_sd import FKDStableDiffusion

    pipe = sampler.backbone.pipe
    parts = {name: getattr(pipe, name, None) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    theirs = FKDStableDiffusion(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    return theirs


def turn(function: Callable[[], list[Any]], clock: Callable[[], float]) -> tuple[float, list[Any]]:
    """Return how long a call takes, the device's queue included, and its result; what it prints is dropped."""
    began = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began, result


def reached(rewards: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the best particle's reward and the mean of all, each averaged over prompts."""
    return {"best": statistics.fmean(map(max, rewards)), "mean": statistics.fmean(map(statistics.fmean, rewards))}


@click.command()
@click.option("--fk-repo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--prompts",
    "counts",
    multiple=True,
    type=click.IntRange(1),
    default=(1, 8),
    show_default=True,
    help="Prompts per turn.",
)
@click.option("--particles", default=4, show_default=True)
@click.option("--steps", default=10, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--chunk", type=int, help="Our chunk, instead of the default; theirs is one population.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--clock", type=click.Choice(("wall", "cpu")), default="wall", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    fk_repo: Path, counts: tuple[int, ...], particles: int, steps: int, repeats: int, chunk: int | None, device: str,
    clock: str, as_json: bool,
) -> None:  # fmt: skip
    """Time both and report paired ratios."""
    tick = time.process_time if clock == "cpu" else time.perf_counter
    sampler = Sampler("shapes", device=device)
    reward = make_reward([REWARD], {}, manager(), sampler.backbone.device)
    theirs = published(fk_repo, sampler, reward)
    guidance = float(sampler.backbone.default_guidance or 1)
    guidance = float(sampler.model.defaults.get("guidance_scale", guidance))
    every = max(1, steps // 5)
    fkd = {
        "use_smc": True, "lmbda": LAMBDA, "potential_type": "diff", "num_particles": particles,
        "adaptive_resampling": False, "resample_frequency": every, "resampling_t_start": every,
        "resampling_t_end": steps - every, "time_steps": steps, "guidance_reward_fn": REWARD, "device": device,
    }  # fmt: skip
    at = list(range(every, steps - every + 1, every))
    options = {"fk": {"lambda": LAMBDA, "potential": "diff", "at": at, "scheme": "multinomial"}}
    texts = some_prompts(max(counts))

    def run_theirs(part: Sequence[str]) -> list[list[Any]]:
        return [
            theirs(
                [text] * particles, fkd_args=fkd, num_inference_steps=steps, guidance_scale=guidance, eta=1.0,
                generator=torch.Generator().manual_seed(0),
            )[0]
            for text in part
        ]  # fmt: skip

    def run_ours(part: Sequence[str]) -> list[list[Any]]:
        items = sampler.stream(
            list(part), methods=["fk"], reward=[reward], options=options, particles=particles, steps=steps,
            guidance_scale=guidance, eta=1.0, chunk=chunk,
        )  # fmt: skip
        return [[sample.reward for sample in item.samples] for item in items]

    data: dict[str, dict[str, Any]] = {}
    for count in counts:
        part = texts[:count]
        turn(lambda part=part: run_theirs(part[:1]), tick)  # type: ignore[misc]
        turn(lambda part=part: run_ours(part[:1]), tick)  # type: ignore[misc]
        pairs = [
            (turn(lambda part=part: run_theirs(part), tick), turn(lambda part=part: run_ours(part), tick))  # type: ignore[misc]
            for _ in range(repeats)
        ]
        (_, images), (_, rewards) = pairs[0]
        device = sampler.backbone.device
        data["one prompt" if count == 1 else f"{count} prompts"] = {
            "theirs_seconds": statistics.median(one for (one, _), _ in pairs),
            "ours_seconds": statistics.median(one for _, (one, _) in pairs),
            "ratios": [round(one / other, 3) for (one, _), (other, _) in pairs],
            "theirs_reward": reached(
                [scores(reward, found, [text] * particles, device) for text, found in zip(part, images, strict=True)]
            ),
            "ours_reward": reached(rewards),
        }
    if as_json:
        click.echo(json.dumps({"particles": particles, "steps": steps, "clock": clock, **data}, indent=1))
        return
    for name, values in data.items():
        ratios, (theirs_found, ours_found) = values["ratios"], (values[f"{who}_reward"] for who in ("theirs", "ours"))
        click.echo(
            f"{name}: theirs {values['theirs_seconds']:.2f} s, ours {values['ours_seconds']:.2f} s; theirs over ours "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {repeats} turns); reward of the "
            f"best particle {theirs_found['best']:.2f} theirs, {ours_found['best']:.2f} ours, of all "
            f"{theirs_found['mean']:.2f} and {ours_found['mean']:.2f}"
        )


if __name__ == "__main__":
    main()
