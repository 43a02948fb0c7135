"""Re-make the comparisons of docs/results.md: methods without and with a student, in seconds, and on a flow.

    python benchmarks/compare.py [--out outputs/compare] [--prompts 240] [--question nfe]

It is ``steer compare`` on the embedded world: the same code and the same folders, so that an interrupted run resumes;
delete the folder to start over. Swept values are tuned on ``prompts/shapes-tune.jsonl``, and the winners run on
``prompts/shapes-eval.jsonl``. Each question has a section between markers of its own; the rest of the file is not
changed.
"""

import platform
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch
from measures import ROOT, spread, write_section
from symmflow import masked_prompts

from steer.evaluate.compare.compare_all import Request, compare_all
from steer.evaluate.compare.summary import Summary
from steer.evaluate.compare.tables import categories, cost, differences, diversity, scores
from steer.evaluate.tables import escape, markdown
from steer.models.options import ModelOptions
from steer.prompts.files import read_prompts
from steer.prompts.prompt import Prompt
from steer.results.storage import write_atomic
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

IMAGES = ROOT / "docs" / "images"
REWARD = "clip:shapes:0.05+shapes-objects+shapes-count+shapes-relations"
JUDGE = "shapes"
PICTURED = ("nfe", "students")
"""The questions whose pictures the page shows."""
BEST_OF_N = "best-of-n:steps=5|7|10,eta=0,keep=64"
"""With the ODE, because η=1 was never the best at any budget; values with | between them are tuned. All samples are
kept, so that they are a population to compare with."""
FUNNEL = "fk funnel=fk:preset=glass,lookahead=0|1,steps=7|10"
STUDENTS = (
    "dmd2+best-of-n=dmd2+best-of-n:dmd2.steps=4",
    "dmd2+prune=dmd2+prune:dmd2.steps=4,at=0,keep=0.14",
    "dmd2+beam=dmd2+beam:dmd2.steps=4,at=0,0.25,0.5",
)


@dataclass(frozen=True)
class Question:
    """What is compared at which budgets.

    Attributes:
        title: of its tables.
        kind: of the budgets, ``"nfe"`` or ``"seconds"`` of one CPU thread.
        amounts: the budgets per prompt.
        prompts: held-out prompts.
        methods: specs; best-of-n is the reference.
        model: that is steered; the flow draws from masks, whose captions only the reward knows.
        preview: decoder for rewards before the last step; ``None`` for the model's full one.
    """

    title: str
    kind: str
    amounts: str
    prompts: int
    methods: tuple[str, ...]
    model: str = "shapes"
    preview: str | None = None


FLOW = "symmflow:masks"
PRUNE = "prune=prune:at=0.1,0.3,keep=0.42,eta=0,steps=7|10"
QUESTIONS = {
    "nfe": Question("Without a student", "nfe", "40,80", 240, (BEST_OF_N, PRUNE, FUNNEL)),
    "students": Question("With a student", "nfe", "40,80", 240, (BEST_OF_N, *STUDENTS)),
    "more": Question("Without a student, more evaluations", "nfe", "160", 240, (BEST_OF_N, PRUNE, FUNNEL)),
    "seconds": Question(
        "At equal seconds of one CPU thread", "seconds", "1", 240, (BEST_OF_N, FUNNEL, STUDENTS[0], STUDENTS[2]),
        preview="own",
    ),
    "steps": Question(
        "A student of four steps or of one", "nfe", "40", 240,
        ("four steps=dmd2+best-of-n:dmd2.steps=4", "one step=dmd2+best-of-n:dmd2.steps=1"),
    ),
    "flow": Question(
        "On a flow model", "nfe", "40", 80,
        (BEST_OF_N, "fk=fk:lambda=1|4,eta=1", "fk funnel=fk:preset=glass,steps=5|10", PRUNE), FLOW,
    ),
}  # fmt: skip
"""Differences of .05 take 240 prompts. The flow has 80: it decides nothing that the page recommends."""


def run(question: Question, out: Path, count: int, tuning: int, replicates: int = 1) -> Summary:
    """Answer a question; questions of one kind about as many prompts share a folder, and what is in it."""
    swept = any("|" in method for method in question.methods)
    request = Request(
        prompts=prompts(question, "eval", min(count, question.prompts)),
        tuning=prompts(question, "tune", tuning) if swept else [],
        methods=question.methods,
        sampling=SamplingRequest(
            model=question.model,
            model_options=ModelOptions(preview=question.preview),
            reward=(REWARD,),
            judge=(JUDGE,),
            device="cpu",
            dtype="fp32",
            settings=RunSettings(steps=10, chunk=16),
        ),
        budget=[f"{question.kind}={question.amounts}"],
        success=1.0,
        replicates=replicates,
        clock="cpu",
    )
    return compare_all(request, str(folder(question, out, count, replicates)), tell=_tell)


def prompts(question: Question, split: str, count: int) -> list[Prompt]:
    """Return a question's prompts to tune on (``"tune"``) or held out (``"eval"``)."""
    if question.model == FLOW:
        return masked_prompts(count, {"eval": 2, "tune": 3}[split])
    return spread(read_prompts(ROOT / "prompts" / f"shapes-{split}.jsonl"), count)


def folder(question: Question, out: Path, count: int, replicates: int = 1) -> Path:
    """Return where a question's samples and pictures are; those of the same prompts and budgets share them."""
    amounts = question.amounts.replace(",", "-")
    seeds = f"x{replicates}" if replicates > 1 else ""
    return out / f"{question.model.replace(':', '-')}-{question.kind}-{amounts}-{min(count, question.prompts)}{seeds}"


def _tell(what: str, done: int, total: int) -> None:
    if done in (0, total):
        click.echo(f"{what}: {done}/{total}")


def section(name: str, question: Question, summary: Summary) -> str:
    """Return the text of a question's section, with its markers; with several seeds, only what methods reach."""
    line = summary.lines[0]
    count, seeds = line.prompts, line.drawings // line.prompts
    again = f" --replicates {seeds}" if seeds > 1 else ""
    about = [
        f"Made by `python benchmarks/compare.py --question {name}{again}`; torch {torch.__version__} on "
        f"{platform.machine()}.",
        f"{count} prompts"
        + ("" if count == question.prompts else f" of the {question.prompts} that it takes")
        + (f", {seeds} seeds each." if seeds > 1 else "."),
    ]
    if question.model == FLOW:
        about.append(
            f"Model `{FLOW}`, which is not guided: the mask gives places, and the caption how the objects look (color, "
            "texture or shape), which only the reward knows."
        )
    if question.preview is not None:
        about.append(f"Rewards before the last step are of images by a small decoder (`--preview {question.preview}`).")
    begin, end = markers(name, seeds)
    lines = [begin, f"### {question.title}{f', {seeds} seeds' if seeds > 1 else ''}", "", " ".join(about), ""]
    if name in PICTURED and seeds == 1:
        lines += [f"![Success by cost](images/compare-{name}.png)", ""]
    lines.append(markdown(scores(summary)))
    further = () if seeds > 1 else (cost(summary), diversity(summary), categories(summary))
    for table in (differences(summary), *further):
        if table is not None:
            lines += ["", f"{escape(table.title)}. {escape(table.note)}", "", markdown(table)]
    tuned = {(line.budget, label): score for line in summary.lines for label, score in line.tuned.items()}
    if tuned and seeds == 1:
        lines += ["", "<details><summary>Tuning</summary>", "",
                  "| budget | variant | success on the tuning prompts |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {budget} | {escape(label)} | {score:.3f} |" for (budget, label), score in tuned.items()]
        lines += ["", "</details>"]
    return "\n".join([*lines, end])


def markers(name: str, seeds: int = 1) -> tuple[str, str]:
    """Return what stands before and after a question's section."""
    which = name if seeds == 1 else f"{name} of {seeds} seeds"
    return f"<!-- compare {which}: made by benchmarks/compare.py -->", f"<!-- compare {which}: end -->"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "compare", show_default=True)
@click.option("--prompts", type=click.IntRange(5), default=240, show_default=True, help="Most held-out prompts.")
@click.option("--tuning", type=click.IntRange(5), default=60, show_default=True, help="Tuning prompts, of 60.")
@click.option("--question", "asked", multiple=True, type=click.Choice(list(QUESTIONS)), help="Only these tables.")
@click.option("--replicates", type=click.IntRange(1), default=1, show_default=True, help="Seeds of each prompt.")
@click.option("--budget", "amounts", metavar="N,N…", help="Other budgets than the tables'.")
@click.option("--write/--no-write", default=True, help="Write the sections of docs/results.md.")
def main(
    out: Path, prompts: int, tuning: int, asked: tuple[str, ...], replicates: int, amounts: str | None, write: bool
) -> None:
    """Compare methods on the embedded world and write their sections of docs/results.md."""
    torch.set_num_threads(1)
    for name in asked or QUESTIONS:
        question = QUESTIONS[name] if amounts is None else replace(QUESTIONS[name], amounts=amounts)
        text = section(name, question, run(question, out, prompts, tuning, replicates))
        picture = folder(question, out, prompts, replicates) / f"scaling-{question.kind}.png"
        if write:
            write_section(text, *markers(name, replicates))
            if name in PICTURED and replicates == 1 and picture.is_file():  # before the next question draws its own
                write_atomic(IMAGES / f"compare-{name}.png", picture.read_bytes())
        click.echo(text)


if __name__ == "__main__":
    main()
