"""Our FK steering beside the published implementation's own pipeline class: same model, reward and settings.

    python benchmarks/peers.py --fk-repo PATH [--prompts 8] [--particles 4] [--repeats 3] [--json]

PATH is a checkout of the FK steering paper's repository (github.com/zacharyhorvitz/Fk-Diffusion-Steering), which is not
part of this one. Its pipeline gets the embedded model, and the embedded CLIP under its own reward's name. Both take
turns, with one prompt at a time and with a file of prompts. The ratios of each turn are reported, theirs over ours.
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


def published(repo: Path, sampler: Sampler, reward: Any) -> Any:
    """Return the published pipeline with our model, its table of rewards replaced by ``reward``."""
    folder = repo / INSIDE
    if not (folder / "fkd_pipeline_sd.py").is_file():
        raise SteerError(f"{repo} is no checkout of the FK steering repository: it has no {INSIDE}/fkd_pipeline_sd.py")

    def get_reward_function(name: str, images: Sequence[Any], prompts: Sequence[str], **_: Any) -> list[float]:
        pixels = np.stack([np.asarray(image) for image in images])
        samples = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(sampler.backbone.device) / 255
        scores: list[float] = reward(samples, [Prompt(text) for text in prompts]).tolist()
        return scores

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


def turn(function: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return how long a call takes, the device's queue included; what it prints is dropped."""
    began = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


@click.command()
@click.option("--fk-repo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--prompts", "count", default=8, show_default=True, help="Prompts of the file.")
@click.option("--particles", default=4, show_default=True)
@click.option("--steps", default=10, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--chunk", type=int, help="Our chunk, instead of the default; theirs is one population.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--clock", type=click.Choice(("wall", "cpu")), default="wall", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    fk_repo: Path, count: int, particles: int, steps: int, repeats: int, chunk: int | None, device: str, clock: str,
    as_json: bool,
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
    texts = some_prompts(count)

    def run_theirs(part: Sequence[str]) -> None:
        for text in part:
            theirs(
                [text] * particles, fkd_args=fkd, num_inference_steps=steps, guidance_scale=guidance, eta=1.0,
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip

    def run_ours(part: Sequence[str]) -> None:
        for _ in sampler.stream(
            list(part), methods=["fk"], reward=[reward], options=options, particles=particles, steps=steps,
            guidance_scale=guidance, eta=1.0, chunk=chunk,
        ):  # fmt: skip
            pass

    found: dict[str, list[tuple[float, float]]] = {}
    for name, part in (("one prompt", texts[:1]), (f"{count} prompts", texts)):
        turn(lambda part=part: run_theirs(part[:1]), tick)  # type: ignore[misc]
        turn(lambda part=part: run_ours(part[:1]), tick)  # type: ignore[misc]
        found[name] = [
            (turn(lambda part=part: run_theirs(part), tick), turn(lambda part=part: run_ours(part), tick))  # type: ignore[misc]
            for _ in range(repeats)
        ]
    data = {
        name: {
            "theirs_seconds": statistics.median(a for a, _ in pairs),
            "ours_seconds": statistics.median(b for _, b in pairs),
            "ratios": [round(a / b, 3) for a, b in pairs],
        }
        for name, pairs in found.items()
    }
    if as_json:
        click.echo(json.dumps({"particles": particles, "steps": steps, "clock": clock, **data}, indent=1))
        return
    for name, values in data.items():
        ratios = values["ratios"]
        click.echo(
            f"{name}: theirs {values['theirs_seconds']:.2f} s, ours {values['ours_seconds']:.2f} s; theirs over ours "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {repeats} turns)"
        )


if __name__ == "__main__":
    main()
