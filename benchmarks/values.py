"""Re-make the section of docs/results.md on FK's strength on the way: fixed, off by a scale, adaptive; and look-ahead.

    python benchmarks/values.py [--out outputs/values] [--prompts 60] [--budget 80]

It is ``steer compare`` on the embedded world, as benchmarks/compare.py is: an interrupted run resumes; delete the
folder to start over. The section stands between two markers; the rest of the file is not changed.
"""

import platform
from pathlib import Path

import click
import torch
from compare import JUDGE, REWARD
from measures import ROOT, spread, write_section

from steer.evaluate.compare.compare_all import Request, compare_all
from steer.evaluate.compare.summary import Summary
from steer.evaluate.compare.tables import differences, scores
from steer.evaluate.tables import escape, markdown
from steer.prompts.files import read_prompts
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

BEGIN, END = "<!-- values: made by benchmarks/values.py -->", "<!-- values: end -->"
REFERENCE = "lambda 4"
METHODS = (
    f"{REFERENCE}=fk:preset=glass",
    "lambda 0.4=fk:preset=glass,lambda=0.4",
    "lambda 0.04=fk:preset=glass,lambda=0.04",
    "adaptive=fk:preset=glass,potential=adaptive",
    "looking ahead=fk:preset=glass,lookahead=1",
)


def run(out: Path, count: int, budget: int) -> Summary:
    """Run what is missing in the folder."""
    return compare_all(
        Request(
            prompts=spread(read_prompts(ROOT / "prompts" / "shapes-eval.jsonl"), count),
            methods=METHODS,
            sampling=SamplingRequest(
                model="shapes",
                reward=(REWARD,),
                judge=(JUDGE,),
                device="cpu",
                dtype="fp32",
                settings=RunSettings(steps=10, chunk=16),
            ),
            budget=[f"nfe={budget}"],
            success=1.0,
            reference=REFERENCE,
            clock="cpu",
        ),
        str(out / f"{budget}-{count}"),
    )


def section(summary: Summary, count: int) -> str:
    """Return the section's text."""
    return "\n".join([
        BEGIN,
        "## FK's strength on the way",
        "",
        f"Made by `python benchmarks/values.py`. {count} held-out prompts, model `shapes`, ten steps, in fp32 on "
        f"{platform.machine()} CPU (one thread), torch {torch.__version__}; FK with `preset=glass`, whose `lambda` of "
        "4 was tuned for this reward. 0.04 is what 4 comes to if the reward is in a unit a hundred times as large. "
        "*Adaptive* is `potential=adaptive`, the same in all units. *Looking ahead* is `lookahead=1`, at equal cost.",
        "",
        markdown(scores(summary)),
        *(line for table in [differences(summary)] if table is not None
          for line in ("", f"{escape(table.title)}. {escape(table.note)}", "", markdown(table))),
        END,
    ])  # fmt: skip


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "values", show_default=True)
@click.option("--prompts", type=click.IntRange(5), default=60, show_default=True, help="Held-out prompts, of 240.")
@click.option("--budget", type=click.IntRange(40), default=80, show_default=True, help="Evaluations per prompt.")
@click.option("--write/--no-write", default=True, help="Write the section of docs/results.md.")
def main(out: Path, prompts: int, budget: int, write: bool) -> None:
    """Compare FK's strengths and write their section of docs/results.md."""
    torch.set_num_threads(1)
    text = section(run(out, prompts, budget), prompts)
    if write:
        write_section(text, BEGIN, END)
    click.echo(text)


if __name__ == "__main__":
    main()
