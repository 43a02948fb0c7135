"""Re-make the students' section of docs/results.md: one- and four-step students compared with their teacher.

    python benchmarks/students.py [--out outputs/students] [--particles 2] [--handover outputs/handover]

Each model's results are kept in the output folder as soon as they are known, so that an interrupted run resumes;
delete the folder to start over. The section stands between two markers, the table of the handover between two of its
own. Without its folder that table is not changed, like the rest of the file.
"""

import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from measures import CATEGORIES, ROOT, Embedding, frechet, interval, ratio, real_scenes, write_section
from torch import Tensor

from steer import Prompt, Sampler
from steer.prompts.files import read_prompts
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward

BEGIN, END = "<!-- students: made by benchmarks/students.py -->", "<!-- students: end -->"
HANDOVER = "<!-- handover: made by benchmarks/handover.py -->", "<!-- handover: end -->"
PACK = 24
SCENES = 2000
"""Held-out real scenes that the Fréchet distance is taken to."""


@dataclass(frozen=True)
class Config:
    """A model on the evaluation prompts."""

    name: str
    methods: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()


TEACHER = Config("teacher, 30 steps", settings=(("scheduler", "ddim"), ("eta", 1.0), ("steps", 30)))
ONE = Config("one-step student", ("dmd2",), (("steps", 1),))
FOUR = Config("four-step student", ("dmd2",), (("steps", 4),))
MODELS = (TEACHER, FOUR, ONE)


class Bench:
    """Runs models on the evaluation prompts and keeps verdicts, features and cost."""

    def __init__(self, out: Path, particles: int, dtype: str) -> None:
        self.out, self.particles, self.dtype = out, particles, dtype
        self.prompts = read_prompts(ROOT / "prompts" / "shapes-eval.jsonl")
        self.judge = make_reward(["shapes"], {}, manager(), torch.device("cpu"))
        self.features = Embedding()
        self._sampler: Sampler | None = None
        out.mkdir(parents=True, exist_ok=True)

    def run(self, config: Config) -> dict[str, Any]:
        """Return verdicts ``[prompts][particles]``, embeddings and cost, from disk or by sampling."""
        path = self.out / f"{config.name.replace(', ', '_').replace(' ', '-')}-{self.particles}.json"
        done: dict[str, Any] = {"judge": [], "features": [], "nfe": 0}
        if path.is_file():
            done = json.loads(path.read_text(encoding="utf-8"))
        while len(done["judge"]) < len(self.prompts):
            part = self.prompts[len(done["judge"]) : len(done["judge"]) + PACK]
            images, cost = self._sample(config, part)
            asked = [prompt for prompt in part for _ in range(self.particles)]
            verdicts = self.judge(images, asked) if self.judge is not None else torch.zeros(0)
            done["judge"] += verdicts.view(len(part), self.particles).tolist()
            done["features"] += self.features(images).tolist()
            done["nfe"] += cost.nfe
            path.write_text(json.dumps(done), encoding="utf-8")
            click.echo(f"{config.name}: {len(done['judge'])}/{len(self.prompts)} prompts")
        if "cpu_seconds" not in done:
            done["cpu_seconds"] = self.time(config)
            path.write_text(json.dumps(done), encoding="utf-8")
        return done

    def time(self, config: Config) -> float:
        """Return CPU seconds per image, text encoding and decoding included; other work counts little."""
        prompts = self.prompts[:: len(self.prompts) // 16][:16]
        self._sample(config, prompts)  # setup at the first use is not part of the time
        began = time.process_time()
        self._sample(config, prompts)
        return (time.process_time() - began) / (len(prompts) * self.particles)

    def _sample(self, config: Config, prompts: list[Prompt]) -> tuple[Tensor, Any]:
        if self._sampler is None:
            self._sampler = Sampler("shapes", dtype=self.dtype, device="cpu")
        result = self._sampler.generate(
            prompts, methods=config.methods, options={"dmd2": dict(config.options)} if config.methods else None,
            particles=self.particles, choose="all", chunk=32, **dict(config.settings),
        )  # fmt: skip
        pixels = np.stack([np.asarray(image) for image in result.images])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, result.cost


def kept(student: list[list[float]], teacher: list[list[float]]) -> str:
    """Return the student's share of the teacher's exactness with its paired bootstrap interval over prompts."""
    a, b = (np.array([np.mean([v >= 1 for v in row]) for row in rows]) for rows in (student, teacher))
    estimate, low, high = ratio(a, b)
    return f"{estimate:.0%} [{low:.0%}, {high:.0%}]"


def section(bench: Bench) -> str:
    """Measure all models; return the section's text."""
    found = {config.name: bench.run(config) for config in MODELS}
    count = len(bench.prompts) * bench.particles
    reference = bench.features(real_scenes(SCENES))
    floor = frechet(bench.features(real_scenes(count, seed=1)), reference)
    rows = []
    for name, data in found.items():
        exact = [float(np.mean([v >= 1 for v in row])) for row in data["judge"]]
        share = "" if name == TEACHER.name else kept(data["judge"], found[TEACHER.name]["judge"])
        rows.append(
            f"| {name} | {data['nfe'] / count:.0f} | {data['cpu_seconds']:.3f} | {interval(exact)} | {share} | "
            f"{interval([float(np.mean(row)) for row in data['judge']])} | "
            f"{frechet(np.array(data['features']), reference):.4f} |"
        )
    lines = [
        BEGIN,
        "## Students: one and four steps",
        "",
        "Made by `python benchmarks/students.py`. Model `shapes` and the students that ship with `steer_dmd2`, "
        f"{bench.dtype} on {platform.machine()} CPU ({torch.get_num_threads()} threads), torch {torch.__version__}; "
        f"{len(bench.prompts)} held-out prompts, {bench.particles} images each, chunks of 32. *Exact* images meet all "
        "of their prompt, as the verifier sees it; *kept* is the share of the teacher's exactness. Intervals: 95% "
        "percentile bootstrap over prompts, paired if two models are compared. *Fréchet*: between the embedded "
        f"CLIP's embeddings of {count} images and {SCENES} scenes of held-out captions; {count} other real scenes are "
        f"{floor:.4f} away. NFE counts guidance as two.",
        "",
        "| model | NFE per image | CPU seconds per image | exact | kept | mean reward | Fréchet |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Exact, by category:",
        "",
        f"| model | {' | '.join(CATEGORIES)} |",
        f"|---|{'---|' * len(CATEGORIES)}",
        *[f"| {name} | {' | '.join(by_category(bench, data))} |" for name, data in found.items()],
        END,
    ]
    return "\n".join(lines)


def by_category(bench: Bench, data: dict[str, Any]) -> list[str]:
    """Return the exact share of each category with its interval."""
    cells = []
    for category in CATEGORIES:
        rows = [row for prompt, row in zip(bench.prompts, data["judge"], strict=True) if prompt.category == category]
        cells.append(interval([float(np.mean([v >= 1 for v in row])) for row in rows]))
    return cells


def handover_lines(folder: Path | None) -> list[str]:
    """Return the table of benchmarks/handover.py, if it has run."""
    path = folder / "handover.jsonl" if folder is not None else None
    if path is None or not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    exact = {row["route"]: (np.array(row["scores"]) >= 1).mean(0) for row in rows}  # [prompts]
    lines = ["Where exactness is lost: the four-step student hands over to the guided teacher on its way, or takes "
             f"over from it (`python benchmarks/handover.py`; {len(next(iter(exact.values())))} held-out prompts, the "
             "teacher in 19 steps of DDIM, η=1):", "",
             "| route | exact |", "|---|---|"]  # fmt: skip
    return lines + [f"| {name} | {interval(values.tolist())} |" for name, values in exact.items()]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "students", show_default=True)
@click.option("--particles", type=click.IntRange(1), default=2, show_default=True, help="Images per prompt.")
@click.option("--dtype", type=click.Choice(("fp32", "bf16")), default="fp32", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--handover", type=click.Path(path_type=Path), help="Folder of benchmarks/handover.py.")
def main(out: Path, particles: int, dtype: str, threads: int, handover: Path | None) -> None:
    """Measure teacher and students on the evaluation prompts and write their section of docs/results.md."""
    torch.set_num_threads(threads)
    bench = Bench(out, particles, dtype)
    tables = {
        (BEGIN, END): section(bench),
        HANDOVER: "\n".join(handover_lines(handover)),
    }
    for (begin, end), text in tables.items():
        if text:
            marked = text if text.startswith(begin) else f"{begin}\n{text}\n{end}"
            write_section(marked, begin, end)
            click.echo(text)


if __name__ == "__main__":
    main()
