"""What the embedded shapes models can do: exact images by category, and captions told apart.

python benchmarks/shapes_weights.py images [--guidance 4] [--sheet FILE]
python benchmarks/shapes_weights.py clip [--groups 50]
"""

import json
import time
from pathlib import Path

import click

from steer_shapes import paths
from steer_shapes.grammar import CATEGORIES


@click.group()
def main() -> None:
    """Measure the shapes models."""


@main.command("images")
@click.option(
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("prompts/shapes-eval.jsonl"),
    show_default=True,
    help="Prompt file with id, prompt and category per line.",
)
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Pipeline folder; the shipped one by default.",
)
@click.option("--steps", type=click.IntRange(1), default=30, show_default=True)
@click.option("--guidance", type=float, default=4.0, show_default=True)
@click.option("--eta", type=click.FloatRange(0, 1), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Most prompts per category.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write the images to this PNG.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def images_command(
    prompts: Path,
    model: Path | None,
    steps: int,
    guidance: float,
    eta: float,
    seed: int,
    limit: int | None,
    sheet: Path | None,
    threads: int,
) -> None:
    """Sample one image per prompt with DDIM; print the share of exact images by category."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from steer_shapes.reward import ShapesReward
    from steer_shapes.train.data import save_sheet
    from steer_shapes.train.t2i import generate, summarize

    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines()]
    if limit is not None:
        chosen = {c: [r for r in rows if r["category"] == c][:limit] for c in CATEGORIES}
        rows = [row for part in chosen.values() for row in part]
    pipe = StableDiffusionPipeline.from_pretrained(str(model or paths.pipeline()), local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    texts = [row["prompt"] for row in rows]
    started = time.monotonic()
    images = generate(pipe, texts, seed=seed, steps=steps, guidance=guidance, eta=eta)
    seconds = time.monotonic() - started
    figures = summarize([row["category"] for row in rows], ShapesReward()(images, texts))
    click.echo(f"{len(rows)} prompts, {steps} steps, guidance {guidance:g}, eta {eta:g}: {seconds:.0f} s")
    for name, value in figures.items():
        click.echo(f"  {name:16} {value:.3f}")
    if sheet is not None:
        save_sheet(images, sheet, columns=16)


@main.command("clip")
@click.option("--model", type=click.Path(exists=True, file_okay=False, path_type=Path), help="open_clip folder.")
@click.option("--groups", type=click.IntRange(1), default=100, show_default=True, help="Pairs per category.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def clip_command(model: Path | None, groups: int, seed: int) -> None:
    """Print how often the CLIP prefers the right one of two captions, or images, one change apart.

    Captions are from the evaluation split; images are newly drawn.
    """
    import open_clip

    from steer_shapes.train.clip import retrieval

    name = f"local-dir:{model or paths.clip()}"
    loaded, _ = open_clip.create_model_from_pretrained(name)
    figures = retrieval(loaded.eval(), open_clip.get_tokenizer(name), seed, split="eval", groups=groups)
    for key in sorted(k.removeprefix("captions_") for k in figures if k.startswith("captions_")):
        line = f"  {key:12} captions {figures['captions_' + key]:.3f}  images {figures['images_' + key]:.3f}"
        click.echo(line)


if __name__ == "__main__":
    main()
