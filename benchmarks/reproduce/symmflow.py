"""SymmFlow (arXiv 2506.10634): FID of images drawn from masks, and mIoU of masks read from images.

    python benchmarks/reproduce/symmflow.py --data FOLDER [--dataset coco|celeba] [--smoke]

The folder has `images/`, `masks/` and `labels.json`, as for `steer train symmflow`: the validation images and masks of
COCO-Stuff or CelebAMask-HQ at 512 pixels, in the colors of the authors. Their weights are fetched and converted. 25
Euler steps to draw. Run again with the same --out to resume.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from PIL import Image
from protocol import Protocol, options

WEIGHTS = {
    "coco": "ocaetas/SymmFlow/LatFM_coco_beta6.0.pt", "celeba": "ocaetas/SymmFlow/LatFM_celeba_beta6.0.pt",
}  # fmt: skip
PAPER = {"coco": {"fid": "7.0", "miou": "39.6"}, "celeba": {"fid": "11.9", "miou": "69.3"}}


@options("symmflow")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with images/, masks/ and labels.json.")
@click.option("--dataset", type=click.Choice(list(WEIGHTS)), default="coco", show_default=True)
@click.option("--weights", help="The authors' file, if the name differs.")
def main(out: Path, smoke: bool, data: Path | None, dataset: str, weights: str | None) -> None:
    """Reproduce the figures of one data set."""
    protocol = Protocol(f"SymmFlow, {dataset}", "arXiv 2506.10634", out, smoke=smoke)
    model, steps = out / "model", 25
    if smoke:
        data, steps = pretended(out / "data"), 2
    elif data is None:
        raise click.UsageError("give --data, or --smoke")
    elif not model.is_dir():
        labels = data / "labels.json"
        protocol.steer("convert", "symmflow", weights or WEIGHTS[dataset], "--labels", labels, "--out", model)
    name = "symmflow:masks" if smoke else f"symmflow:{model}"
    known = {} if smoke else PAPER[dataset]
    masks = sorted((data / "masks").iterdir())
    rows = [{"id": path.stem, "prompt": path.stem, "mask": str(path.resolve())} for path in masks]
    (out / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    protocol.steer("render", out / "rows.jsonl", "-m", name, "--steps", steps, "--out", out / "drawn")
    both = [out / "drawn" / "images", "--reference", data / "images"]
    if smoke:
        row = protocol.data("measure", "cmmd", *both, "--clip", "shapes")
        protocol.measured("CMMD by the embedded CLIP", row)
        protocol.unchecked.append("FID: it needs the network's weights")
    else:
        protocol.measured("FID, 25 steps", protocol.data("measure", "fid", *both), known.get("fid", ""))
    read = protocol.data("segment", data / "images", "-m", name, "--steps", steps, "--truth", data / "masks",
                         "--out", out / "read", "--force")  # fmt: skip
    protocol.measured("mIoU, %", {**read["miou"], "value": 100 * read["miou"]["value"]}, known.get("miou", ""))
    if smoke:
        for label in ("star", "cross"):
            folder = out / "classes" / label
            model = ["-m", "symmflow:classes", "--class", label, "--steps", 5, "-n", 2]
            protocol.steer("generate", *model, "--out", folder)
        rows = [path for path in (out / "classes").glob("*/*.png") if "-0" in path.stem]
        found = protocol.data("classify", *rows, "-m", "symmflow:classes", "--truth", out / "classes")
        protocol.measured("accuracy of classes", found["accuracy"])
    protocol.unchecked += [
        "classification of MNIST and CIFAR-10: the authors' checkpoints of pixels are not converted",
        "FID: the authors' is pytorch-fid's of 299-pixel images, ours torch-fidelity's",
    ]
    protocol.report()


def pretended(folder: Path) -> Path:
    """Write scenes of the embedded world with their masks."""
    from steer_shapes.labeled import ShapesMasks

    source = ShapesMasks()
    scenes, masks = source.batch(np.random.default_rng(0), 6, "eval")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (pixels, labels) in enumerate(zip(scenes, masks, strict=True)):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(np.array(source.colors, dtype=np.uint8)[labels]).save(folder / "masks" / f"{number}.png")
    return folder


if __name__ == "__main__":
    main()
