"""Re-make the first section of docs/results.md: the gain of FK steering on the embedded world at equal denoiser cost.

    python benchmarks/fk.py [--out outputs/fk] [--prompts 60] [--tuning 18]

Every configuration's scores are kept in the output folder as soon as they are known, so that an interrupted run
resumes; delete the folder to start over, also for another number of prompts. The section stands between two
markers; the rest of the file is not touched.
"""

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from measures import ROOT, interval, spread, write_section

from steer import Prompt, Sampler
from steer.evaluate.statistics import Interval, bootstrap_mean
from steer.models.device import computes_bf16
from steer.prompts.files import read_prompts
from steer.registry.plugins import manager
from steer.results.storage import write_atomic
from steer.rewards.by_name import make_reward

BEGIN, END = "<!-- fk: made by benchmarks/fk.py -->", "<!-- fk: end -->"
JUDGE = "shapes"
REWARDS = ("shapes", "clip:shapes")
STEPS = 10
DTYPE = "bf16" if computes_bf16("cpu") else "fp32"
PACK = 24  # prompts a call: what is finished is written


@dataclass(frozen=True)
class Config:
    """One method with its settings on one prompt file."""

    name: str
    reward: str
    particles: int
    methods: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    split: str = "eval"

    @property
    def key(self) -> str:
        """File name of its scores."""
        values = "-".join(f"{k}{v}" for k, v in sorted(self.options.items()))
        return "_".join([self.split, self.name, self.reward.replace(":", "-"), str(self.particles), values]).strip("_")


def fk(reward: str, particles: int, split: str = "eval", **options: Any) -> Config:
    """Return FK steering with the given options."""
    return Config("fk", reward, particles, ("fk",), options, split)


PLAIN = Config("plain", "clip:shapes", 8)
"""The plain samples, drawn once: scored by the CLIP and, like all, by the judge."""

EARLY = {"start": 0.1, "end": 0.5, "every": 0.1}
EVEN = {"start": 0.2, "end": 0.8, "every": 0.2}
GRID: dict[str, list[dict[str, Any]]] = {
    "shapes": [
        {"potential": potential, "lambda": lam, **schedule}
        for potential, lam, schedule in (
            ("max", 10.0, EVEN), ("diff", 10.0, EVEN), ("diff", 10.0, EARLY), ("max", 4.0, EARLY), ("diff", 4.0, EVEN),
        )
    ],
    "clip:shapes": [
        {"potential": "diff", "lambda": lam, **schedule}
        for lam, schedule in ((0.1, EVEN), (0.3, EVEN), (0.3, EARLY), (1.0, EVEN))
    ],
}  # fmt: skip
"""What is tried on the tuning prompts, k=4; the best sum of the judge's means, chosen and over particles, wins."""


class Bench:
    """Runs configurations and keeps their scores."""

    def __init__(self, out: Path, prompts: int, tuning: int) -> None:
        self.out = out
        self.counts = {"eval": prompts, "tune": tuning}
        out.mkdir(parents=True, exist_ok=True)
        self._sampler: Sampler | None = None
        self._judge: Any = None

    def prompts(self, split: str) -> list[Prompt]:
        """Read a split's prompts."""
        return spread(read_prompts(ROOT / "prompts" / f"shapes-{split}.jsonl"), self.counts[split])

    def scores(self, config: Config) -> dict[str, Any]:
        """Return a configuration's scores, from disk or by running it."""
        path = self.out / f"{config.key}.json"
        done: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"rows": [], "cost": {}}
        prompts = self.prompts(config.split)
        for start in range(len(done["rows"]), len(prompts), PACK):
            began = time.perf_counter()
            rows, cost = self._run(config, prompts[start : start + PACK])
            done["rows"] += rows
            done["cost"] = {k: done["cost"].get(k, 0) + v for k, v in cost.items()}
            write_atomic(path, json.dumps(done).encode())
            click.echo(f"{config.key}: {len(done['rows'])}/{len(prompts)} ({time.perf_counter() - began:.0f} s)")
        return done

    def _run(self, config: Config, prompts: list[Prompt]) -> tuple[list[dict[str, Any]], dict[str, float]]:
        if self._sampler is None:
            self._sampler = Sampler("shapes", dtype=DTYPE)
            self._judge = make_reward([JUDGE], {}, manager(), torch.device("cpu"))
        began = time.process_time()
        result = self._sampler.generate(
            prompts,
            methods=config.methods,
            reward=config.reward,
            particles=config.particles,
            steps=STEPS,
            eta=1.0,
            chunk=32,
            options={"fk": config.options} if config.methods else {},
        )
        cost = {**result.cost.as_dict(), "seconds": time.process_time() - began}
        rows = []
        for item in result.items:
            pixels = np.stack([np.asarray(sample.image) for sample in item.samples])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            rows.append(
                {
                    "id": item.prompt.id,
                    "category": item.prompt.category,
                    "reward": [sample.reward for sample in item.samples],
                    "log_weight": [sample.log_weight for sample in item.samples],
                    "judge": self._judge(images, [item.prompt] * len(images)).tolist(),
                    "unique": item.trace["unique_ancestors"],
                }
            )
        return rows, cost


def measures(rows: list[dict[str, Any]], particles: int | None = None, reward: str = "reward") -> dict[str, np.ndarray]:
    """Return per-prompt measures of the judge over the first ``particles``: population mean and the chosen one."""
    mean, exact, chosen = [], [], []
    for row in rows:
        judge = np.array(row["judge"][:particles])
        mean.append(judge.mean())
        exact.append((judge >= 1).mean())
        chosen.append(judge[int(np.argmax(row[reward][:particles]))])
    picked = np.array(chosen)
    return {"mean": np.array(mean), "exact": np.array(exact), "chosen": picked, "chosen_exact": (picked >= 1) * 1.0}


def tune(bench: Bench, reward: str) -> tuple[dict[str, Any], list[tuple[dict[str, Any], float, float]]]:
    """Return the best options on the tuning prompts and the whole grid with its scores."""
    tried = []
    for options in GRID[reward]:
        m = measures(bench.scores(fk(reward, 4, "tune", **options))["rows"])
        tried.append((options, float(m["chosen"].mean()), float(m["mean"].mean())))
    return max(tried, key=lambda row: row[1] + row[2])[0], tried


def paired(values: np.ndarray) -> Interval:
    """Return the mean difference over prompts with its interval."""
    return bootstrap_mean(values.tolist())


def table(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is the head."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def section(bench: Bench, reward: str) -> Iterator[str]:
    """Yield the lines of one reward's part of the page."""
    best, tried = tune(bench, reward)
    choose = "judge" if reward == JUDGE else "reward"
    plain = bench.scores(PLAIN)
    steered = {k: bench.scores(fk(reward, k, **best)) for k in (4, 8)}
    nfe, seconds = plain["cost"]["nfe"], plain["cost"]["seconds"]
    runs = {
        f"plain / best-of-{k}": (measures(plain["rows"], k, choose), nfe * k / 8, seconds * k / 8, float(k))
        for k in (4, 8)
    }
    for k, scores in steered.items():
        unique = float(np.mean([row["unique"] for row in scores["rows"]]))
        runs[f"FK k={k}"] = (measures(scores["rows"]), scores["cost"]["nfe"], scores["cost"]["seconds"], unique)
    count = len(plain["rows"])
    yield f"### Steered by `{reward}`" + (f", judged by `{JUDGE}`" if reward != JUDGE else "")
    yield ""
    yield (
        f"{count} prompts. FK's options, tuned on the prompts of `shapes-tune.jsonl`: "
        + ", ".join(f"`{name}={value}`" for name, value in best.items())
        + "."
    )
    yield ""
    rows = [["method", "mean over particles", "exact, share of particles", "chosen: mean", "chosen: exact",
             "NFE per prompt", "CPU seconds per prompt", "distinct ancestors"]]  # fmt: skip
    for name, (m, nfe, seconds, unique) in runs.items():
        rows.append([name, *(interval(m[key]) for key in ("mean", "exact", "chosen", "chosen_exact")),
                     f"{nfe / count:.0f}", f"{seconds / count:.2f}", f"{unique:.1f}"])  # fmt: skip
    yield table(rows)
    yield ""
    yield "Paired differences over prompts (equal NFE in each row):"
    yield ""
    rows = [["", "mean over particles, FK − plain", "chosen, FK − best-of-k", "chosen exact, FK − best-of-k"]]
    for k in (4, 8):
        base, steer = runs[f"plain / best-of-{k}"][0], runs[f"FK k={k}"][0]
        rows.append([f"k={k}", *(str(paired(steer[name] - base[name])) for name in ("mean", "chosen", "chosen_exact"))])
    more = paired(runs["FK k=8"][0]["mean"] - runs["FK k=4"][0]["mean"])
    yield table(rows)
    yield ""
    yield f"More particles: mean over particles, FK k=8 − FK k=4: {more}."
    yield ""
    yield "By category, share of exact images:"
    yield ""
    categories = sorted({row["category"] for row in plain["rows"]})
    rows = [["method", *categories]]
    for name, key in (("plain / best-of-4", "exact"), ("plain / best-of-4", "chosen_exact"), ("FK k=4", "exact"),
                      ("FK k=4", "chosen_exact")):  # fmt: skip
        label = {"exact": "particles", "chosen_exact": "chosen"}[key]
        values = runs[name][0][key]
        by = [
            np.array([v for v, r in zip(values, plain["rows"], strict=True) if r["category"] == c]) for c in categories
        ]
        rows.append([f"{name}, {label}", *(f"{v.mean():.2f}" for v in by)])
    yield table(rows)
    yield ""
    yield "<details><summary>Tuning</summary>"
    yield ""
    yield table([["options", "chosen", "mean over particles"], *(
        [", ".join(f"{k}={v}" for k, v in o.items()), f"{c:.3f}", f"{m:.3f}"] for o, c, m in tried)])  # fmt: skip
    yield ""
    yield "</details>"
    yield ""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "fk", show_default=True)
@click.option("--prompts", type=click.IntRange(6), default=60, show_default=True, help="Held-out prompts, of 240.")
@click.option("--tuning", type=click.IntRange(6), default=18, show_default=True, help="Tuning prompts, of 60.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--dry", is_flag=True, help="Print the section; do not change docs/results.md.")
def main(out: Path, prompts: int, tuning: int, threads: int, dry: bool) -> None:
    """Compare FK with best-of-n of the same cost and write its section of docs/results.md."""
    torch.set_num_threads(threads)
    bench = Bench(out, prompts, tuning)
    lines = [
        BEGIN,
        "## FK against best-of-n",
        "",
        f"Made by `python benchmarks/fk.py`. Model `shapes`, {STEPS} DDIM steps, η=1, the model's own guidance, "
        f"{DTYPE} on {platform.machine()} CPU ({torch.get_num_threads()} threads), torch {torch.__version__}. Each "
        "prompt has a seed hashed from its id, so that all methods start from the same noises (paired). The judge is "
        "the verifier `shapes`: the share of the prompt's requirements met; *exact* means all of them. Values are means"
        " over prompts with 95% percentile-bootstrap intervals (prompts resampled, 10,000 draws). *Mean over particles*"
        " counts every final particle once, unweighted; *chosen* is the particle that the steering reward likes best, "
        "for plain samples therefore best-of-k. NFE counts guidance as two.",
        "",
    ]
    for reward in REWARDS:
        lines += list(section(bench, reward))
    text = "\n".join(lines).rstrip() + f"\n{END}"
    click.echo(text)
    if not dry:
        write_section(text, BEGIN, END)


if __name__ == "__main__":
    main()
