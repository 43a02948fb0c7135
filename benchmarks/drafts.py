"""Re-make the drafts' section of docs/results.md: what is left of best-of-8's gain, against cost.

    nice python benchmarks/drafts.py [--out outputs/drafts] [--prompts 40]

Eight samples per prompt of the embedded world are drawn in full, and drafted in several ways by the method ``draft``.
The drafts' rewards say which samples it redoes for any ``keep``, and a redone sample is checked to be the one drawn in
full. What is drawn is kept in the folder, so that an interrupted run resumes. The section stands between two markers.
"""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from compare import JUDGE, REWARD
from measures import ROOT, ratio, spread, write_section
from numpy.typing import NDArray

from steer import Sampler
from steer.prompts.files import read_prompts
from steer.prompts.prompt import Prompt
from steer.results.storage import write_atomic

BEGIN, END = "<!-- drafts: made by benchmarks/drafts.py -->", "<!-- drafts: end -->"
N, BATCH = 8, 8
KEEPS = (1, 2)


@dataclass(frozen=True, eq=False)
class Way:
    """A way to draft.

    Attributes:
        steps: of the samples.
        label: in the table.
        options: of the method.
    """

    steps: int
    label: str
    options: Mapping[str, int]


WAYS = (
    Way(10, "cache, every 2nd step in full", {"cache": 2}),
    Way(10, "cache, every 3rd", {"cache": 3}),
    Way(10, "5 steps", {"steps": 5}),
    Way(20, "cache, every 3rd step in full", {"cache": 3}),
    Way(20, "cache, every 5th", {"cache": 5}),
)


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        rewards: ``[P, 8]``, of each prompt's drafts, or of its samples in full.
        judged: ``[P, 8]``, of samples in full.
        nfe: per draft or sample.
    """

    rewards: NDArray[np.float64]
    judged: NDArray[np.float64]
    nfe: float


def plain(sampler: Sampler, prompts: Sequence[Prompt], steps: int) -> dict[str, Any]:
    """Draw every prompt's samples in full."""
    rewards, judged, nfe = [], [], 0.0
    for first in range(0, len(prompts), BATCH):
        result = sampler.generate(
            prompts[first : first + BATCH], particles=N, steps=steps, eta=0.0, chunk=N, reward=REWARD, judge=JUDGE,
            choose="all",
        )  # fmt: skip
        rewards += [[sample.reward for sample in item.samples] for item in result.items]
        judged += [[sample.judge[JUDGE] for sample in item.samples] for item in result.items]
        nfe += result.cost.nfe
    return {"rewards": rewards, "judged": judged, "nfe": nfe / N / len(prompts)}


def drafted(sampler: Sampler, prompts: Sequence[Prompt], way: Way, whole: Drawn) -> dict[str, Any]:
    """Draft every prompt's samples, and check the one that is redone.

    Raises:
        RuntimeError: if it is another sample than the one in full.
    """
    rewards, nfe = [], 0.0
    for first in range(0, len(prompts), BATCH):
        result = sampler.generate(
            prompts[first : first + BATCH], steps=way.steps, eta=0.0, chunk=N, reward=REWARD, methods="draft",
            options={"draft": {"n": N, "keep": 1, **way.options}},
        )  # fmt: skip
        for number, item in enumerate(result.items, first):
            (sample,) = item.samples
            if sample.reward != whole.rewards[number, sample.slot]:
                raise RuntimeError(f"prompt {number}: the redone sample is not the one that its draft stands for")
            rewards.append(
                [
                    reward
                    for event in item.trace["events"]
                    if event["kind"] == "candidate"
                    for reward, origin in zip(event["reward"], event["origin"], strict=True)
                    if origin == "draft"
                ]
            )
        nfe += result.cost.nfe
    return {"rewards": rewards, "nfe": (nfe / len(prompts) - whole.nfe) / N}


def kept(whole: Drawn, drafts: NDArray[np.float64], keep: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return reward and verdict ``[P]`` of the best of the samples that each prompt's best drafts stand for."""
    redone = np.argsort(-drafts, axis=1, kind="stable")[:, :keep]
    best = redone[np.arange(len(redone)), np.take_along_axis(whole.rewards, redone, 1).argmax(1)]
    rows = np.arange(len(best))
    return whole.rewards[rows, best], whole.judged[rows, best]


def fewer(whole: Drawn, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return reward and verdict ``[P]`` of the best of so many samples, on average over which they are."""
    rows = np.arange(len(whole.rewards))
    rewards, judged = [], []
    for some in map(list, combinations(range(N), count)):
        best = np.array(some)[whole.rewards[:, some].argmax(1)]
        rewards.append(whole.rewards[rows, best])
        judged.append(whole.judged[rows, best])
    return np.mean(rewards, axis=0), np.mean(judged, axis=0)


def line(whole: Drawn, label: str, cost: float, found: tuple[NDArray[np.float64], NDArray[np.float64]]) -> str:
    """Return a line of the table: cost, and shares of the gain of the best of all, as a share each of best-of-8's."""
    most = fewer(whole, N)
    shares = []
    for values, all_, best in zip(found, (whole.rewards, whole.judged), most, strict=True):
        share, low, high = ratio(values - all_.mean(1), best - all_.mean(1))
        shares.append(f"{share:.2f} [{low:.2f}, {high:.2f}]")
    return f"| {label} | {cost:.2f} | {' | '.join(shares)} |"


def section(whole: Mapping[int, Drawn], drafts: Mapping[Way, Drawn]) -> str:
    """Return the section's text."""
    lines = [
        BEGIN,
        "## Drafts",
        "",
        "Made by `python benchmarks/drafts.py`: how much of best-of-8's gain over a plain sample is left if eight "
        "drafts are drawn and the best of them redone ([search.md](search.md#drafts)). "
        f"{len(next(iter(whole.values())).rewards)} held-out prompts, no noise on the way (η=0), reward `{REWARD}`, "
        f"judge `{JUDGE}`, which steers nothing, with 95% intervals by a bootstrap over prompts. Costs are denoiser "
        "evaluations as shares of best-of-8's; one that reuses features counts as the share of its operations that is "
        f"computed. *Best-of-n* is the mean over all choices of n of the eight. {platform.machine()} CPU, torch "
        f"{torch.__version__}. The best draft of each prompt was redone, and gave the very reward of the sample drawn "
        "in full.",
    ]
    for steps, full in whole.items():
        gain = (full.rewards.max(1) - full.rewards.mean(1)).mean()
        lines += [
            "",
            f"### Samples of {steps} steps",
            "",
            f"Best-of-8 takes {N * full.nfe:g} evaluations, and raises the mean reward by {gain:.3f} and the judge's "
            f"from {full.judged.mean():.3f} to {fewer(full, N)[1].mean():.3f}.",
            "",
            "| | cost | gain in the reward | gain by the judge |",
            "|---|---|---|---|",
        ]
        lines += [line(full, f"best-of-{count}", count / N, fewer(full, count)) for count in (3, 4, 5, 6)]
        for way, drawn in drafts.items():
            if way.steps == steps:
                lines += [
                    line(full, f"{way.label}; {keep} redone", drawn.nfe / full.nfe + keep / N,
                         kept(full, drawn.rewards, keep))
                    for keep in KEEPS
                ]  # fmt: skip
    lines += [
        "",
        "*Agreement* is the mean correlation of drafts' and samples' rewards within a prompt:",
        "",
        "| steps | drafts | evaluations each | agreement |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {way.steps} | {way.label} | {drawn.nfe:.1f} of {whole[way.steps].nfe:g} | "
        f"{agreement(whole[way.steps], drawn):.2f} |"
        for way, drawn in drafts.items()
    ]
    return "\n".join([*lines, END])


def agreement(whole: Drawn, drafts: Drawn) -> float:
    """Return the mean correlation of drafts' and samples' rewards within a prompt."""
    pairs = zip(whole.rewards, drafts.rewards, strict=True)
    return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs if one.std() and other.std()]))


def remembered(file: Path, make: Callable[[], dict[str, Any]]) -> Drawn:
    """Return what a file holds, which is made if it is not there."""
    if not file.is_file():
        data = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(data).encode())
        click.echo(f"{file.name}: {data['nfe']:g} evaluations each")
    data = json.loads(file.read_text())
    return Drawn(np.array(data["rewards"]), np.array(data.get("judged", [])), data["nfe"])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "drafts", show_default=True)
@click.option("--prompts", "count", type=click.IntRange(5), default=40, show_default=True, help="Held-out prompts.")
@click.option("--steps", "asked", multiple=True, type=int, help="Only samples of so many steps.")
@click.option("--write/--no-write", default=True, help="Write the section of docs/results.md.")
def main(out: Path, count: int, asked: tuple[int, ...], write: bool) -> None:
    """Measure drafts on the embedded world and write their section of docs/results.md."""
    torch.set_num_threads(1)
    sampler = Sampler("shapes", device="cpu", dtype="fp32")
    prompts = spread(read_prompts(ROOT / "prompts" / "shapes-eval.jsonl"), count)
    folder = out / str(len(prompts))
    whole: dict[int, Drawn] = {}
    drafts: dict[Way, Drawn] = {}
    for way in WAYS:
        steps = way.steps
        if asked and steps not in asked:
            continue
        if steps not in whole:
            whole[steps] = remembered(folder / f"{steps}-full.json", partial(plain, sampler, prompts, steps))
        name = "-".join(f"{option}{value}" for option, value in way.options.items())
        make = partial(drafted, sampler, prompts, way, whole[steps])
        drafts[way] = remembered(folder / f"{steps}-{name}.json", make)
    text = section(whole, drafts)
    if write:
        write_section(text, BEGIN, END)
    click.echo(text)


if __name__ == "__main__":
    main()
