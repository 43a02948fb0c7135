"""Seconds per iteration and peak memory of CARINOX on a full-size SDXL in one step, with random weights.

    python benchmarks/carinox_memory.py [--device cuda] [--size 512] [--smoke] [--json]

Four rewards of the sizes that matter are differentiated one after another: CLIPs of ViT-H-14 (as HPS and PickScore
are), ViT-L-14 and ViT-B-16, untrained. ``--smoke`` shrinks everything, to try the script without a GPU.
"""

import json
import time
from contextlib import nullcontext
from typing import Any

import click
import open_clip
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler
from families import sdxl
from torch import Tensor

from steer import Sampler

TOWERS = ("ViT-H-14", "ViT-H-14", "ViT-L-14", "ViT-B-16")
SMALL = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}


class Tower:
    """A reward: the mean of an untrained image tower's embedding, differentiable."""

    differentiable = True

    def __init__(self, name: str, device: str, dtype: torch.dtype, smoke: bool) -> None:
        self.name = name
        more = {"vision_cfg": SMALL, "text_cfg": {"layers": 1, "width": 64, "heads": 2}} if smoke else {}
        self.tower = open_clip.create_model(name, device="cpu", **more).visual.to(device, dtype).requires_grad_(False)
        size = self.tower.image_size
        self.size = size if isinstance(size, tuple) else (size, size)

    def __call__(self, samples: Tensor, prompts: Any) -> Tensor:
        """Score ``[N, 3, H, W]``."""
        images = F.interpolate(samples, self.size, mode="bicubic", antialias=True)
        dtype = next(self.tower.parameters()).dtype
        scores: Tensor = self.tower(images.to(dtype)).float().mean(dim=1)
        return scores


def measure(sampler: Sampler, rewards: list[Any], seeds: int, size: int | None, **options: Any) -> dict[str, float]:
    """Return seconds per iteration and peak memory of a warm run."""
    cuda = sampler.backbone.device.type == "cuda"
    iterations = 3

    def run(count: int) -> float:
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        sampler.generate(
            "a red circle", methods=["carinox"], reward=rewards, steps=1, guidance_scale=0.0, width=size, height=size,
            chunk=1, options={"carinox": {"seeds": seeds, "iterations": count, "weights": "uniform", **options}},
        )  # fmt: skip
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    run(1)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    one = run(1)
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else float("nan")
    return {"seconds_an_iteration": (run(1 + iterations) - one) / iterations, "peak_gb": peak}


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--size", type=int, default=512, show_default=True, help="Image size in pixels, as SDXL-Turbo's.")
@click.option("--smoke", is_flag=True, help="Tiny sizes, to try the script.")
@click.option("--json", "as_json", is_flag=True)
def main(device: str, size: int, smoke: bool, as_json: bool) -> None:
    """Measure 1, 4 and 16 seeds in chunks of one, clipped at noise and image, with and without recomputing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("torch sees no CUDA device; give --device cpu --smoke to try the script")
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device) if device != "cpu" else nullcontext():
        torch.set_default_dtype(dtype)
        pipe = sdxl(smoke)
        torch.set_default_dtype(torch.float32)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    sampler = Sampler(pipe, device=device)
    rewards = [Tower(name, device, dtype, smoke) for name in TOWERS]
    for number, reward in enumerate(rewards):
        reward.name = f"{reward.name} {number}"
    rows = []
    for seeds in (1, 4, 16):
        for clip_at in ("noise", "image"):
            for recompute in (True, False):
                found = measure(sampler, rewards, seeds, None if smoke else size, clip_at=clip_at, recompute=recompute)
                rows.append({"seeds": seeds, "clip_at": clip_at, "recompute": recompute, **found})
                if not as_json:
                    click.echo(
                        " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items())
                    )
    machine = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    if as_json:
        click.echo(json.dumps({"machine": machine, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
