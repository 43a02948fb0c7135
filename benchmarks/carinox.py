"""Re-make the CARINOX section of docs/results.md: optimizing the noise compared with choosing among noises.

    python benchmarks/carinox.py [--out outputs/carinox] [--per-category 3] [--pool 256] [--iterations 30]

All samples are kept in the output folder prompt by prompt, so that an interrupted run resumes; delete the folder to
start over. The section stands between two markers; the rest of the file is not changed.

One pool of plain samples, each scored by every reward and the judge, serves best-of-n for any n and any weights. Every
candidate of a CARINOX run is kept, so one run gives the results of fewer seeds and fewer iterations too.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from measures import CATEGORIES, ROOT, interval, ratio, write_section
from numpy.typing import NDArray

from steer import Prompt, Sampler
from steer.prompts.files import read_prompts
from steer_carinox.calibration.categories import canonical
from steer_carinox.calibration.correlations import Calibration, Ratings, calibrate
from steer_carinox.weights import toml_text

BEGIN, END = "<!-- carinox: made by benchmarks/carinox.py -->", "<!-- carinox: end -->"
JUDGE, QUALITY = "shapes", "shapes-clean"
REWARDS = {"clip:shapes": "clip:shapes@40..100", "shapes-objects": "shapes-objects", "shapes-count": "shapes-count",
           "shapes-relations": "shapes-relations"}  # fmt: skip
"""Label to expression. The CLIP's cosine is about .4 for another scene and 1 at best."""
EXPRESSION = "+".join(REWARDS.values())
STUDENT = {"dmd2": {"steps": 1}}
SEEDS = 5
RATINGS_A_PROMPT = 12
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    """One way of optimizing."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """File name of what it drew."""
        return self.name.replace(" ", "-").replace(",", "")


class Bench:
    """Draws and keeps."""

    def __init__(self, out: Path, per_category: int, pool: int, iterations: int, rate: float | None) -> None:
        self.out, self.pool, self.iterations = out, pool, iterations
        self.fixed: dict[str, Any] = {"iterations": iterations, "recompute": False, "watch": (JUDGE, QUALITY)}
        if rate is not None:
            self.fixed["lr"] = rate
        self.rated = 10 if per_category > 1 else 2  # tuning prompts per category; two for a look
        self.prompts = [p for c in CATEGORIES for p in of_category("eval", c)[:per_category]]
        out.mkdir(parents=True, exist_ok=True)
        self._sampler: Sampler | None = None

    @property
    def sampler(self) -> Sampler:
        """The model, loaded when it is first needed."""
        if self._sampler is None:
            self._sampler = Sampler("shapes", device="cpu")
        return self._sampler

    def kept(self, name: str, prompts: Sequence[Prompt], draw: Callable[[Prompt], dict[str, Any]]) -> list[Any]:
        """Return what ``draw`` gives for each prompt, from disk or drawn now."""
        path = self.out / f"{name}.jsonl"
        done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        rows = {row["id"]: row for row in done}
        for number, prompt in enumerate(prompts, 1):
            if prompt.id not in rows:
                rows[prompt.id] = {"id": prompt.id, "category": prompt.category, **draw(prompt)}
                with path.open("a") as file:
                    file.write(json.dumps(rows[prompt.id]) + "\n")
                click.echo(f"{name}: {number}/{len(prompts)}")
        return [rows[prompt.id] for prompt in prompts]

    def plain(self, name: str, prompts: Sequence[Prompt], count: int) -> list[Any]:
        """Return plain samples' scores: by reward, and the judge's."""

        def draw(prompt: Prompt) -> dict[str, Any]:
            judges = [JUDGE, QUALITY, *REWARDS.values()]
            began = time.process_time()
            item = self.sampler.generate(
                prompt, methods=["dmd2"], options=STUDENT, particles=count, choose="all", judge=judges, chunk=16
            ).items[0]
            spent = time.process_time() - began
            names = [JUDGE, QUALITY, *REWARDS]
            scores = {n: [round(s.judge[e], 5) for s in item.samples] for n, e in zip(names, judges, strict=True)}
            return {"scores": scores, "cpu_seconds": spent}

        return self.kept(name, prompts, draw)

    def climb(self, config: Config, prompts: Sequence[Prompt], name: str | None = None) -> list[Any]:
        """Return every candidate of a run: values by name, ``[iterations][seeds]``."""

        def draw(prompt: Prompt) -> dict[str, Any]:
            began = time.process_time()
            item = self.sampler.generate(
                prompt, methods=["dmd2", "carinox"], reward=EXPRESSION,
                chunk=config.options.get("seeds", 1),
                options={**STUDENT, "carinox": {**self.fixed, **config.options}},
            ).items[0]  # fmt: skip
            spent = time.process_time() - began
            events = [event for event in item.trace["events"] if event["kind"] == "candidate"]
            names = [*REWARDS, f"watch {JUDGE}", f"watch {QUALITY}"]
            return {
                "values": {n.removeprefix("watch "): [np.round(e[n], 5).tolist() for e in events] for n in names},
                "spent": events[-1]["spent"][-1],
                "cpu_seconds": spent,
            }

        return self.kept(name or config.key, prompts, draw)


def of_category(split: str, category: str) -> list[Prompt]:
    """Return a split's prompts of one category."""
    return [p for p in read_prompts(ROOT / "prompts" / f"shapes-{split}.jsonl") if p.category == category]


# ---- what was drawn, read --------------------------------------------------------------------------------


def best_of(rows: Sequence[Any], n: int, weights: dict[str, dict[str, float]]) -> Floats:
    """Return the judge's score of the best of the first n samples by weighted rewards, ``[prompts]``."""
    found = []
    for row in rows:
        by = weights.get(canonical(row["category"]), {})
        total = sum(by.get(name, 1.0) * np.array(row["scores"][name][:n]) for name in REWARDS)
        found.append(row["scores"][JUDGE][int(np.argmax(total))])
    return np.array(found)


def chosen(rows: Sequence[Any], seeds: int, iterations: int, measure: str = JUDGE) -> Floats:
    """Return a measure of the image that CARINOX keeps of the first seeds and iterations, ``[prompts]``."""
    found = []
    for row in rows:
        loss = -sum(np.array(row["values"][name])[:iterations, :seeds] for name in REWARDS)
        at = np.unravel_index(int(np.argmin(loss)), loss.shape)
        found.append(float(np.array(row["values"][measure])[at]))
    return np.array(found)


def calibrated(rows: Sequence[Any]) -> tuple[dict[str, dict[str, float]], dict[str, Calibration]]:
    """Derive category weights from plain samples of the tuning prompts, rated by the judge."""
    found: dict[str, Calibration] = {}
    for category in CATEGORIES:
        mine = [row for row in rows if row["category"] == category]
        prompt = np.repeat(np.arange(len(mine)), [len(row["scores"][JUDGE]) for row in mine])
        columns = {name: np.concatenate([row["scores"][name] for row in mine]) for name in (JUDGE, *REWARDS)}
        rated = Ratings(columns.pop(JUDGE), columns, prompt)
        result = calibrate(rated, within=True)
        if result is not None:
            found[canonical(category)] = result
    return {c: {n: w.estimate for n, w in result.weight.items()} for c, result in found.items()}, found


def memory(seeds: int) -> float:
    """Return the peak memory of a process that climbs from so many seeds in chunks of two, in MB."""
    code = (
        "import resource, torch; torch.set_num_threads(1)\n"
        "from steer import Sampler\n"
        "s = Sampler('shapes', device='cpu')\n"
        f"o = {{'dmd2': {{'steps': 1}}, 'carinox': {{'iterations': 2, 'seeds': {seeds}}}}}\n"
        f"s.generate('a red circle and a blue star', methods=['dmd2', 'carinox'], reward={EXPRESSION!r}, options=o, "
        "chunk=2)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


# ---- the section -----------------------------------------------------------------------------------------


def gain(values: Floats, base: Floats) -> str:
    """Return the relative gain of the means with its paired interval over prompts."""
    estimate, low, high = (value - 1 for value in ratio(values, base))
    return f"{estimate:+.1%} [{low:+.1%}, {high:+.1%}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def section(bench: Bench) -> list[str]:
    """Measure everything; return the section's lines."""
    tune = [p for c in CATEGORIES for p in of_category("tune", c)[: bench.rated]]
    weights, table_of = calibrated(bench.plain("ratings", tune, RATINGS_A_PROMPT))
    (bench.out / "weights.toml").write_text(toml_text(weights))
    pool = bench.plain("pool", bench.prompts, bench.pool)
    configs = {
        "ReNO": Config("reno", {"preset": "reno"}),
        "CARINOX, uniform": Config("uniform", {"weights": "uniform", "seeds": SEEDS}),
        "CARINOX, calibrated": Config("calibrated", {"weights": str(bench.out / "weights.toml"), "seeds": SEEDS}),
        "CARINOX, calibrated, clipped at the image": Config(
            "image", {"weights": str(bench.out / "weights.toml"), "seeds": SEEDS, "clip_at": "image"}
        ),
    }
    runs = {name: bench.climb(config, bench.prompts) for name, config in configs.items()}
    each = float(np.mean([row["cpu_seconds"] for row in pool])) / bench.pool
    plain = np.array([np.mean(row["scores"][JUDGE]) for row in pool])
    lines = [
        BEGIN,
        "## Optimizing the noise: CARINOX",
        "",
        f"Made by `python benchmarks/carinox.py`. The one-step student of `shapes`, fp32 on {platform.machine()} CPU "
        f"({torch.get_num_threads()} threads), torch {torch.__version__}; {len(bench.prompts)} held-out prompts, as "
        f"many of each category. Climbed: {', '.join(f'`{e}`' for e in REWARDS.values())}. Judged by `{JUDGE}`, the "
        "share of a prompt's requirements met, which no method optimizes or chooses by. Means over prompts with 95% "
        "percentile-bootstrap intervals; gains are relative to plain samples (the mean of "
        f"{bench.pool} per prompt), paired. Settings: the paper's, {bench.iterations} iterations"
        + (f", lr {bench.fixed['lr']:g}" if "lr" in bench.fixed else "")
        + ". *NFE* counts evaluations going forward, *work* a backward pass as two more. *Best-of-n* chooses among "
        "independent samples by the same rewards, calibrated alike; at equal seconds it has the samples that take as "
        "much CPU time, scoring included.",
        "",
    ]
    rows = [["plain", interval(plain), "", level_exact(pool), "1", "1", f"{each:.2f}", "", ""]]
    for name, found in runs.items():
        judged = chosen(found, SEEDS, bench.iterations)
        nfe = sum(len(row) for row in found[0]["values"][JUDGE])
        seconds = float(np.mean([row["cpu_seconds"] for row in found]))
        by = {} if "calibrated" not in name else weights
        same_nfe, same_seconds = min(nfe, bench.pool), min(round(seconds / each), bench.pool)
        cut = "" if round(seconds / each) <= bench.pool else f" (of {round(seconds / each)})"
        rows.append([
            name, interval(judged), gain(judged, plain), f"{np.mean(judged >= 1):.2f}", str(nfe),
            f"{np.mean([row['spent'] for row in found]):.0f}", f"{seconds:.1f}",
            f"{best_of(pool, same_nfe, by).mean():.3f} (n={same_nfe})",
            f"{best_of(pool, same_seconds, by).mean():.3f} (n={same_seconds}{cut})",
        ])  # fmt: skip
    lines += table(["method", f"`{JUDGE}`", "gain", "exact", "NFE", "work", "CPU s a prompt", "best-of-n, equal NFE",
                    "best-of-n, equal seconds"], rows)  # fmt: skip
    lines += ["", "By category:", ""]
    columns: dict[str, Floats] = {"plain": plain}
    columns |= {f"best-of-{n}": best_of(pool, n, weights) for n in (16, bench.pool)}
    columns |= {name: chosen(found, SEEDS, bench.iterations) for name, found in runs.items()}
    which = np.array([prompt.category for prompt in bench.prompts])
    lines += table(
        ["method", *CATEGORIES], [[n, *(f"{v[which == c].mean():.3f}" for c in CATEGORIES)] for n, v in columns.items()]
    )
    lines += ["", *_ablations(bench, runs, pool, weights), "", *_hacking(bench, runs), "", *_weights(table_of), ""]
    peaks = ", ".join(f"{memory(n):.0f} MB from {n} seed{'s' * (n > 1)}" for n in (1, 4, 16))
    lines += [f"Peak memory of the process, in chunks of two, two iterations: {peaks}.", END]
    return lines


def level_exact(pool: Sequence[Any]) -> str:
    """Return the share of plain samples that are exact."""
    return f"{np.mean([np.mean(np.array(row['scores'][JUDGE]) >= 1) for row in pool]):.2f}"


def _ablations(bench: Bench, runs: dict[str, Any], pool: Sequence[Any], weights: dict[str, Any]) -> list[str]:
    found = runs["CARINOX, calibrated"]
    steps = [i for i in (1, 5, 10, 20, 50, 80) if i <= bench.iterations]
    rows = [[f"{seeds} seed{'s' * (seeds > 1)}", *(f"{chosen(found, seeds, i).mean():.3f}" for i in steps)]
            for seeds in range(1, SEEDS + 1)]  # fmt: skip
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if n <= bench.pool]
    return [
        "`shapes` by seeds and iterations (calibrated):", "",
        *table(["", *(f"{i} iterations" if i > 1 else "1 iteration" for i in steps)], rows), "",
        "Best-of-n on the same prompts, chosen by the same rewards:", "",
        *table(["weights", *map(str, sizes)], [
            ["uniform", *(f"{best_of(pool, n, {}).mean():.3f}" for n in sizes)],
            ["calibrated", *(f"{best_of(pool, n, weights).mean():.3f}" for n in sizes)],
        ]),
    ]  # fmt: skip


def _hacking(bench: Bench, runs: dict[str, Any]) -> list[str]:
    """Steered rewards beside judge and quality: the mean over prompts and seeds at an iteration."""
    found = runs["CARINOX, calibrated"]
    steps = sorted({0, 1, 2, 5, 10, 20, 30, 50, bench.iterations - 1} & set(range(bench.iterations)))
    names = [*REWARDS, JUDGE, QUALITY]
    rows = [
        [str(i), *(f"{np.mean([np.mean(row['values'][n][i]) for row in found]):.3f}" for n in names)] for i in steps
    ]
    return [
        f"Along the iterations (calibrated; mean over prompts and seeds): the climbed rewards, then `{JUDGE}` and "
        f"`{QUALITY}`, which only watch:", "", *table(["iteration", *(f"`{n}`" for n in names)], rows),
    ]  # fmt: skip


def _weights(found: dict[str, Calibration]) -> list[str]:
    rows = [[c, *(f"{w.estimate:.2f} [{w.low:.2f}, {w.high:.2f}]" for w in result.weight.values()),
             "; ".join(result.doubts)] for c, result in found.items()]  # fmt: skip
    return [
        "Category weights, calibrated on plain samples of the tuning prompts that the judge rated (order within a "
        "prompt):", "", *table(["category", *(f"`{n}`" for n in REWARDS), "doubts"], rows),
    ]  # fmt: skip


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "carinox", show_default=True)
@click.option("--per-category", type=click.IntRange(1), default=3, show_default=True, help="Prompts of each category.")
@click.option("--pool", type=click.IntRange(16), default=256, show_default=True, help="Plain samples per prompt.")
@click.option("--iterations", type=click.IntRange(1), default=30, show_default=True)
@click.option("--lr", type=float, help="Learning rate, instead of the paper's.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--dry", is_flag=True, help="Print the section; do not change docs/results.md.")
def main(out: Path, per_category: int, pool: int, iterations: int, lr: float | None, threads: int, dry: bool) -> None:
    """Measure plain samples, best-of-n, ReNO and CARINOX on the one-step student."""
    torch.set_num_threads(threads)
    text = "\n".join(section(Bench(out, per_category, pool, iterations, lr)))
    click.echo(text)
    if not dry:
        write_section(text, BEGIN, END)


if __name__ == "__main__":
    main()
