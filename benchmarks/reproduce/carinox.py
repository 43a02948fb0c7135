"""CARINOX on SD-Turbo (arXiv 2509.17458): T2I-CompBench++, 50 prompts per category, against the model alone.

    python benchmarks/reproduce/carinox.py [--model sd-turbo|sdxl-turbo] [--smoke]

Five seeds and 50 iterations each, HPS, ImageReward, VQAScore and DA by the paper's weights of the prompt's category.
Judges are those of `steer bench t2i-compbench`. Run again with the same --out to resume.
"""

from __future__ import annotations

from pathlib import Path

import click
from protocol import Protocol, figure_of, options

MODELS = {"sd-turbo": "stabilityai/sd-turbo", "sdxl-turbo": "stabilityai/sdxl-turbo"}
CATEGORIES, PER_CATEGORY = 8, 50
PAPER = "+16%"
"""Gain of the mean over categories, as the abstract has it, over all models."""


@options("carinox")
@click.option("--model", type=click.Choice(list(MODELS)), default="sd-turbo", show_default=True)
def main(out: Path, smoke: bool, model: str) -> None:
    """Reproduce the gain on T2I-CompBench++."""
    protocol = Protocol("CARINOX", "arXiv 2509.17458, abstract", out, smoke=smoke)
    if smoke:
        bench, limit, rewards = "shapes-bench", 12, "clip:shapes+shapes-objects"
        base = ["-m", "shapes", "-p", "dmd2", "-o", "dmd2.steps=1"]
        search = ["-o", "carinox.slots=0,94", "-o", "carinox.iterations=2"]
    else:
        bench, limit, rewards = "t2i-compbench", CATEGORIES * PER_CATEGORY, "hps+imagereward+vqa+da"
        base, search = ["-m", MODELS[model], "--steps", 1, "--guidance", 0], ["-o", "carinox.slots=0,94,58,45,15"]
    common = ["bench", bench, *base, "--no-plain", "--images", 1, "--limit", limit, "--out", out / bench]
    protocol.steer(*common, "--name", "one-step")
    summary = protocol.data(*common, "-p", "carinox", "-r", rewards, *search, "--choose", "best", "--name", "carinox")
    lines = {line["column"]: line for line in summary["lines"] if line["measure"] == summary["lines"][0]["measure"]}
    for name, line in lines.items():
        for group in line["figures"]:
            protocol.measured(f"{name}: {group}", figure_of(line, group))
    before, after = (lines[name]["figures"]["overall"]["estimate"] for name in ("one-step", "carinox"))
    gain = {"value": 100 * (after / before - 1) if before else 0.0, "prompts": lines["carinox"]["prompts"]}
    protocol.measured("gain of the mean over categories, %", gain, PAPER)
    protocol.unchecked += [
        "relations and numbers by the paper's UniDet: ours are by OWLv2",
        "DA's questions: the paper's are by GPT, ours by rules",
        "noise: the reference draws on the GPU in the order of prompts",
        "HRS, whose evaluation is not published in full, and PixArt-α-DMD",
    ]
    protocol.report()


if __name__ == "__main__":
    main()
