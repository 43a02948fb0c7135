"""DMD2's students of SDXL (arXiv 2405.14867): FID and CLIP score on 10,000 captions of COCO.

    python benchmarks/reproduce/dmd2.py --prompts captions.txt --reference coco10k/subset [--student …] [--smoke]

Prompts and real images are the authors' (tianweiy/DMD2 on the hub, data/coco); the prompts there are a pickle, which
steer does not read: write them as one line each. Seed 10; all images are resized to 512 by Lanczos, as published. Run
again with the same --out to resume.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image
from protocol import Protocol, options

STUDENTS = {
    "4 steps": (["-o", "dmd2.student=sdxl"], "19.32"), "4 steps, LoRA": (["-o", "dmd2.student=sdxl-lora"], "19.68"),
    "1 step": (["-o", "dmd2.student=sdxl", "-o", "dmd2.steps=1"], "19.01"),
}  # fmt: skip
SIDE = 512


@options("dmd2")
@click.option("--prompts", type=click.Path(path_type=Path), help="Captions, one a line.")
@click.option("--reference", type=click.Path(path_type=Path), help="Folder of the real images.")
@click.option("--student", "students", multiple=True, type=click.Choice(list(STUDENTS)), help="All three by default.")
def main(out: Path, smoke: bool, prompts: Path | None, reference: Path | None, students: tuple[str, ...]) -> None:
    """Reproduce the table of SDXL."""
    protocol = Protocol("DMD2", "tianweiy/DMD2, experiments/sdxl/README.md", out, smoke=smoke)
    model, clip = "stabilityai/stable-diffusion-xl-base-1.0", "ViT-bigG-14/laion2b_s39b_b160k"
    chosen = students or tuple(STUDENTS)
    if smoke:
        model, clip, chosen = "shapes", "shapes", chosen[:1]
        prompts, reference = pretended(out)
    elif prompts is None or reference is None:
        raise click.UsageError("give --prompts and --reference, or --smoke")
    assert prompts is not None and reference is not None
    real = resized(reference, out / "real", None if smoke else SIDE)
    for name in chosen:
        words, known = STUDENTS[name]
        place = out / name.replace(" ", "-").replace(",", "")
        student = [] if smoke else words
        protocol.steer("render", prompts, "-m", model, "-p", "dmd2", *student, "--run-seed", 10, "--out", place)
        drawn = resized(place / "images", place / "resized", None if smoke else SIDE)
        if smoke:
            row = protocol.data("measure", "cmmd", drawn, "--reference", real, "--clip", clip)
            protocol.measured(f"{name}: CMMD by the embedded CLIP", row)
        else:
            protocol.measured(f"{name}: FID", protocol.data("measure", "fid", drawn, "--reference", real), known)
        row = protocol.data("measure", "clip", place / "images", "--metadata", place / "metadata.jsonl", "--clip", clip)
        protocol.measured(f"{name}: CLIP score", row)
    protocol.unchecked += [
        "FID: the authors' is clean-fid's, ours torch-fidelity's; both read the same network, their resizing differs",
        "patch FID", "the students of SD 1.5 and of ImageNet",
    ]  # fmt: skip
    if smoke:
        protocol.unchecked.append("FID itself: it needs the network's weights")
    protocol.report()


def resized(folder: Path, out: Path, side: int | None) -> Path:
    """Return a folder with the images at another size; those that are there are kept."""
    if side is None:
        return folder
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.rglob("*.png")) + sorted(folder.rglob("*.jpg")):
        target = out / f"{path.stem}.png"
        if not target.is_file():
            with Image.open(path) as image:
                image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS).save(target)
    return out


def pretended(out: Path) -> tuple[Path, Path]:
    """Write a few captions, and scenes of the embedded world for real images."""
    from steer_shapes.labeled import ShapesMasks

    scenes, _ = ShapesMasks().batch(np.random.default_rng(0), 8, "eval")
    (out / "scenes").mkdir(exist_ok=True)
    for number, pixels in enumerate(scenes):
        Image.fromarray(pixels).save(out / "scenes" / f"{number}.png")
    (out / "captions.txt").write_text("a red circle\na blue star\ntwo green squares\na cross\n")
    return out / "captions.txt", out / "scenes"


if __name__ == "__main__":
    main()
