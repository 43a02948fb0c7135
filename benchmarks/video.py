"""Re-make the videos' section of docs/results.md: FK and best-of-n beside plain samples, on the embedded video model.

    python benchmarks/video.py [--out outputs/video] [--prompts 60]

It is ``steer compare`` on ``prompts/shapes-video-eval.jsonl``: the same code and the same folder, so that an
interrupted run resumes; delete the folder to start over.
"""

import platform
from pathlib import Path

import click
import torch
from measures import ROOT, spread, write_section

from steer.evaluate.compare.compare_all import Request, compare_all
from steer.evaluate.compare.summary import Summary
from steer.evaluate.compare.tables import cost, differences, scores
from steer.evaluate.tables import escape, markdown
from steer.prompts.files import read_prompts
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

BEGIN, END = "<!-- video: made by benchmarks/video.py -->", "<!-- video: end -->"
REWARD, JUDGE = "shapes-moving", "shapes-video"
METHODS = ("plain", "best-of-n:keep=64", "fk:lambda=10,potential=max")
"""FK's options are those that were best on images; nothing is tuned here."""
BUDGET = "nfe=64"
STEPS = 8


def run(out: Path, prompts: int) -> Summary:
    """Compare the methods; what is in ``out`` is not sampled again."""
    request = Request(
        prompts=spread(read_prompts(ROOT / "prompts" / "shapes-video-eval.jsonl"), prompts),
        methods=METHODS,
        sampling=SamplingRequest(
            model="shapes-video",
            reward=(REWARD,),
            judge=(JUDGE,),
            device="cpu",
            dtype="fp32",
            settings=RunSettings(steps=STEPS),
        ),
        budget=[BUDGET],
        success=1.0,
        clock="cpu",
    )
    return compare_all(request, str(out), tell=_tell)


def _tell(what: str, done: int, total: int) -> None:
    if done in (0, total):
        click.echo(f"{what}: {done}/{total}")


def section(summary: Summary) -> str:
    """Return the section's text."""
    lines = [
        BEGIN,
        "## Videos",
        "",
        "Made by `python benchmarks/video.py`, which is `steer compare` ([compare.md](compare.md)). Model "
        f"`shapes-video`, {STEPS} steps, in fp32 on {platform.machine()} CPU (one thread), torch {torch.__version__}; "
        f"{summary.lines[0].prompts} sentences whose color, shape and motion no training video has together. Steered "
        f"by `{REWARD}`, which sees three frames through a learned detector, and judged by the verifier `{JUDGE}`, "
        "which steers nothing. Success: the video shows all that the sentence says. *Particles* are all that a method "
        "keeps. FK has the options that were best on images; nothing was tuned on videos.",
    ]
    for table in (scores(summary), differences(summary), cost(summary)):
        if table is not None:
            lines += ["", f"{escape(table.title)}. {escape(table.note)}", "", markdown(table)]
    return "\n".join([*lines, "", END])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("outputs/video"), show_default=True)
@click.option("--prompts", default=60, show_default=True, help="Held-out sentences.")
@click.option("--no-write", is_flag=True, help="Print the section and leave docs/results.md alone.")
def main(out: Path, prompts: int, no_write: bool) -> None:
    """Measure, and write the section."""
    torch.set_num_threads(1)
    text = section(run(out, prompts))
    if no_write:
        click.echo(text)
    else:
        write_section(text, BEGIN, END)


if __name__ == "__main__":
    main()
