"""Re-make the comparison's section of docs/results.md: the best method at equal evaluations and at equal seconds.

    python benchmarks/compare.py [--out outputs/compare] [--prompts 42] [--budget nfe=40,80,160] [--budget seconds=1]

It is ``steer compare`` on the embedded world: the same code and the same folders, so that an interrupted run resumes;
delete the folder to start over. Swept values are tuned on ``prompts/shapes-tune.jsonl``, and the winners run on
``prompts/shapes-eval.jsonl``. The section stands between two markers; the rest of the file is not changed.
"""

import platform
from pathlib import Path

import click
import torch
from measures import ROOT, spread, write_section

from steer.evaluate.compare.compare_all import Request, compare_all
from steer.evaluate.compare.summary import Summary
from steer.evaluate.compare.tables import categories, cost, differences, diversity, escape, markdown, scores
from steer.prompts.files import read_prompts
from steer.results.storage import write_atomic
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- compare: made by benchmarks/compare.py -->", "<!-- compare: end -->"
REWARD = "clip:shapes:0.05+shapes-objects+shapes-count+shapes-relations"
JUDGE = "shapes"
MAIN = (
    "plain:eta=1",
    "best-of-n:steps=5|10|20,eta=0",
    "fk:potential=diff,lambda=1|4",
    "entropic fk=fk:potential=diff,lambda=4,min_entropy=0.9",
    "dmd2=dmd2:dmd2.steps=4,particles=4",
    "dmd2+best-of-n=dmd2+best-of-n:dmd2.steps=4",
    "dmd2+fk=dmd2+fk:dmd2.steps=4,potential=diff,lambda=1,at=1,2",
    "dmd2+prune=dmd2+prune:dmd2.steps=4",
)
"""The compared methods; values with | between them are tuned. Best-of-n uses the ODE, because η=1 was
never the best at any budget."""
ASCENT = "dmd2+carinox=dmd2+carinox:dmd2.steps=1,carinox.seeds=2"
"""Compared only at equal evaluations; each reward's backward pass counts as three. One iteration of two seeds with all
rewards' gradients takes about the whole budget of seconds."""
IN_SECONDS = (
    "best-of-n:steps=5|10,eta=0",
    "dmd2+best-of-n=dmd2+best-of-n:dmd2.steps=4",
    "dmd2+fk=dmd2+fk:dmd2.steps=4,potential=diff,lambda=1,at=1,2",
    "dmd2+prune=dmd2+prune:dmd2.steps=4",
)
"""Compared at equal seconds: the methods that could win. FK without a student takes more time per evaluation than
best-of-n and was no better at equal evaluations."""
METHODS = {"nfe": (*MAIN, ASCENT), "seconds": IN_SECONDS}
BUDGETS = {"nfe": "40,80,160", "seconds": "1"}
"""Per prompt, of one CPU thread."""


def run(kind: str, amounts: str, out: Path, count: int, tuning: int, methods: tuple[str, ...]) -> Summary:
    """Compare at budgets of one kind."""
    swept = any("|" in method for method in methods)
    request = Request(
        prompts=spread(read_prompts(ROOT / "prompts" / "shapes-eval.jsonl"), count),
        tuning=spread(read_prompts(ROOT / "prompts" / "shapes-tune.jsonl"), tuning) if swept else [],
        methods=methods,
        sampling=SamplingRequest(
            reward=(REWARD,), judge=(JUDGE,), device="cpu", dtype="fp32", settings=RunSettings(steps=10, chunk=16)
        ),
        budget=[f"{kind}={amounts}"],
        success=1.0,
        clock="cpu",
    )
    return compare_all(request, str(out / kind), tell=_tell)


def _tell(what: str, done: int, total: int) -> None:
    if done in (0, total):
        click.echo(f"{what}: {done}/{total}")


def section(summaries: dict[str, Summary], count: int) -> str:
    """Return the section's text."""
    names = {"nfe": "equal denoiser evaluations", "seconds": "equal seconds of one CPU thread"}
    tuned = [line for summary in summaries.values() for line in summary.lines if line.tuned]
    lines = [
        BEGIN,
        "## Every method at equal cost",
        "",
        "Made by `python benchmarks/compare.py`, which is `steer compare` ([compare.md](compare.md)). "
        f"{count} held-out prompts, model `shapes` in fp32 on {platform.machine()} CPU (one thread), torch "
        f"{torch.__version__}; steered by `{REWARD}`, learned rewards that are each blind to something, and judged by "
        f"the verifier `{JUDGE}`, which steers nothing. Success: all that the prompt says is met."
        + (
            " Swept values were chosen on other prompts, for each budget, best-of-n's steps among them."
            if tuned
            else ""
        ),
    ]
    for kind, summary in summaries.items():
        lines += ["", f"### At {names[kind]}", ""]
        if len({line.budget for line in summary.lines}) > 1:
            lines += [f"![Success by cost](images/compare-{kind}.png)", ""]
        lines.append(markdown(scores(summary)))
        for table in (differences(summary), cost(summary), diversity(summary), categories(summary)):
            if table is not None:
                lines += ["", f"{escape(table.title)}. {escape(table.note)}", "", markdown(table)]
    if tuned:
        lines += ["", "<details><summary>Tuning</summary>", "", "| budget | variant | success on the tuning prompts |",
                  "|---|---|---|"]  # fmt: skip
        lines += [f"| {line.budget} | {escape(label)} | {score:.3f} |" for line in tuned
                  for label, score in line.tuned.items()]  # fmt: skip
        lines += ["", "</details>"]
    return "\n".join([*lines, END])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "compare", show_default=True)
@click.option("--prompts", type=click.IntRange(5), default=42, show_default=True, help="Held-out prompts, of 240.")
@click.option("--tuning", type=click.IntRange(5), default=18, show_default=True, help="Tuning prompts.")
@click.option(
    "--budget", "budgets", multiple=True, metavar="nfe=N|seconds=S", help="Other budgets than those of the page."
)
@click.option("--method", "methods", multiple=True, help="Other methods than those of the page.")
@click.option("--write/--no-write", default=True, help="Write the section of docs/results.md.")
def main(out: Path, prompts: int, tuning: int, budgets: tuple[str, ...], methods: tuple[str, ...], write: bool) -> None:
    """Compare all methods on the embedded world and write their section of docs/results.md."""
    torch.set_num_threads(1)
    amounts = dict(text.split("=", 1) for text in budgets) if budgets else BUDGETS
    summaries = {}
    for kind, text in amounts.items():
        summaries[kind] = run(kind, text, out, prompts, tuning, methods or METHODS.get(kind, MAIN))
    text = section(summaries, next(iter(summaries.values())).lines[0].prompts)
    if write:
        for kind, summary in summaries.items():
            if len({line.budget for line in summary.lines}) > 1:
                picture = (out / kind / f"scaling-{kind}.png").read_bytes()
                write_atomic(IMAGES / f"compare-{kind}.png", picture)
        write_section(text, BEGIN, END)
    click.echo(text)


if __name__ == "__main__":
    main()
