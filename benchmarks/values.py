"""Print the table of docs/fk.md: FK's strength on the way, fixed, off by a scale or adaptive; and a look-ahead.

    python benchmarks/values.py [--out outputs/values] [--prompts 48] [--budget 80]

It is ``steer compare`` on the embedded world, as benchmarks/compare.py is: an interrupted run resumes; delete the
folder to start over.
"""

from pathlib import Path

import click
import torch
from compare import JUDGE, REWARD
from measures import ROOT, spread

from steer.evaluate.compare.compare_all import Request, compare_all
from steer.evaluate.compare.tables import cost, differences, scores
from steer.evaluate.tables import markdown
from steer.prompts.files import read_prompts
from steer.prompts.prompt import Prompt
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

REFERENCE = "lambda 4"
METHODS = (
    f"{REFERENCE}=fk:preset=glass,potential=diff",
    "lambda 0.4=fk:preset=glass,potential=diff,lambda=0.4",
    "lambda 0.04=fk:preset=glass,potential=diff,lambda=0.04",
    "adaptive=fk:preset=glass",
    "looking ahead=fk:preset=glass,potential=diff,lookahead=1",
)
"""lambda=4 was tuned for this reward; it comes to the others if the reward's unit is 10 or 100 times as large."""


def request(prompts: list[Prompt], budget: int) -> Request:
    """Return the comparison of the strengths at equal cost."""
    sampling = SamplingRequest(
        model="shapes",
        reward=(REWARD,),
        judge=(JUDGE,),
        device="cpu",
        dtype="fp32",
        settings=RunSettings(steps=10, chunk=16),
    )
    return Request(
        prompts=prompts,
        methods=METHODS,
        sampling=sampling,
        budget=[f"nfe={budget}"],
        success=1.0,
        reference=REFERENCE,
        clock="cpu",
    )


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "values", show_default=True)
@click.option("--prompts", type=click.IntRange(5), default=48, show_default=True, help="Held-out prompts, of 240.")
@click.option("--budget", type=click.IntRange(40), default=80, show_default=True, help="Evaluations per prompt.")
def main(out: Path, prompts: int, budget: int) -> None:
    """Compare FK's strengths on the way and print the tables."""
    torch.set_num_threads(1)
    chosen = spread(read_prompts(ROOT / "prompts" / "shapes-eval.jsonl"), prompts)
    summary = compare_all(request(chosen, budget), str(out / f"{budget}-{prompts}"))
    for table in (scores(summary), differences(summary), cost(summary)):
        if table is not None:
            click.echo(f"{table.title}. {table.note}\n\n{markdown(table)}\n")


if __name__ == "__main__":
    main()
