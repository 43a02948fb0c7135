"""Ablations of DMD2 on the embedded model: the same short run without each part.

    python benchmarks/dmd2_ablations.py --out runs/ablations [--steps 60]

One run per row, one after the other, each with as many student updates. Finished runs are skipped and interrupted ones
resume. `python benchmarks/students.py --ablations runs/ablations` puts the table into docs/results.md.
"""

import subprocess
import sys
from pathlib import Path

import click

from steer.models.device import computes_bf16

ROOT = Path(__file__).resolve().parents[1]
COMMON = [
    "--teacher", "shapes", "--data", "shapes", "--student-steps", "4", "--timesteps", "799,599,399,199",
    "--guidance", "2.5", "--batch", "32", "--snr-clip", "5", "--ema", "0.98", "--rate", "2e-4", "--critic-rate", "4e-4",
    "--critic-warmup", "20", "--precision", "bf16" if computes_bf16("cpu") else "no", "--device", "cpu",
    "--reward", "shapes",
]  # fmt: skip
VARIANTS: dict[str, tuple[str, ...]] = {
    "all parts (critic ratio 2)": ("--ratio", "2"),
    "without two time scales (ratio 1)": ("--ratio", "1"),
    "without the GAN": ("--ratio", "2", "--gan", "0"),
    "without backward simulation": ("--ratio", "2", "--no-simulate"),
}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "runs" / "ablations", show_default=True)
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Student updates of each run.")
@click.option("--scenes", type=click.IntRange(1), default=6144, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--validate",
    type=click.Path(path_type=Path),
    default=ROOT / "prompts" / "shapes-tune.jsonl",
    show_default=True,
    help="Prompts of the last validation.",
)
def main(out: Path, steps: int, scenes: int, threads: int, validate: Path) -> None:
    """Train every variant."""
    for name, options in VARIANTS.items():
        folder = out / name
        if (folder / "student" / "student.json").is_file():
            click.echo(f"{name}: done")
            continue
        command = [
            sys.executable, "-m", "steer", "train", "dmd2", *COMMON, *options, "--out", str(folder),
            "--steps", str(steps), "--scenes", str(scenes), "--threads", str(threads), "--validate", str(validate),
            "--save-every", "20", "--sheet-every", "1000",
        ]  # fmt: skip
        if (folder / "recipe.json").is_file():
            command.append("--resume")
        click.echo(f"{name} …")
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
