"""The loss of each step of a student: it hands over to the teacher, or takes over from it, at any step.

    python benchmarks/handover.py [--student FOLDER] [--out outputs/handover] [--prompts 168] [--images 1]

The four-step student takes its first j steps and the guided teacher the rest, for every j; and the reverse. Results are
kept in the output folder row by row; `python benchmarks/students.py --handover FOLDER` puts the table into
docs/results.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from measures import spread
from torch import Tensor

from steer.models.device import computes_bf16
from steer.models.downloads.checkpoints import read_tensors
from steer.prompts.files import read_prompts
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward
from steer.rewards.combinations import WeightedSum
from steer_dmd2.student import WEIGHTS, read_card
from steer_dmd2.train.teacher import Teacher

ROOT = Path(__file__).resolve().parents[1]
PACK = 40
STRIDE = 50
"""Timesteps between two steps of the teacher."""


@dataclass(frozen=True)
class Leg:
    """A run of steps by one of the two."""

    student: bool
    timesteps: tuple[int, ...]


def routes(timesteps: tuple[int, ...], last: int = 999) -> dict[str, list[Leg]]:
    """Return every way to share the work, by what it is called."""

    def teacher(start: int, end: int) -> Leg:
        return Leg(False, tuple(range(start, end, -STRIDE)))

    found = {"teacher alone": [teacher(last - last % STRIDE - 1, 0)]}
    for taken in range(1, len(timesteps)):
        found[f"student {_list(timesteps[:taken])}, then teacher"] = [
            Leg(True, timesteps[:taken]), teacher(timesteps[taken], 0)]  # fmt: skip
    found[f"student alone, {_list(timesteps)}"] = [Leg(True, timesteps)]
    for left in range(1, len(timesteps)):
        found[f"teacher, then student {_list(timesteps[left:])}"] = [
            teacher(last - last % STRIDE - 1, timesteps[left]), Leg(True, timesteps[left:])]  # fmt: skip
    return found


def _list(timesteps: tuple[int, ...]) -> str:
    return ", ".join(map(str, timesteps))


class Bench:
    """Teacher and student beside each other."""

    def __init__(self, folder: Path, prompts: int) -> None:
        self.card = read_card(folder)
        self.teacher = Teacher("shapes", manager(), device="cpu")
        self.teacher.copy("student").load_state_dict(read_tensors(folder / WEIGHTS))
        self.prompts = spread(read_prompts(ROOT / "prompts" / "shapes-eval.jsonl"), prompts)
        judge = make_reward(["shapes"], {}, manager(), torch.device("cpu"))
        assert isinstance(judge, WeightedSum)
        self.judge = judge

    @torch.no_grad()
    def verdicts(self, legs: list[Leg], seed: int) -> list[float]:
        """Return the judge's score of an image of each prompt."""
        found: list[float] = []
        for start in range(0, len(self.prompts), PACK):
            part = self.prompts[start : start + PACK]
            generator = torch.Generator().manual_seed(seed * 100_003 + start)
            with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16("cpu")):
                images = self.teacher.backbone.decode(self.sample(legs, [str(p) for p in part], generator))
            found += self.judge(images.float(), list(part)).tolist()
        return found

    def sample(self, legs: list[Leg], captions: list[str], generator: torch.Generator) -> Tensor:
        """Return latents: the student's steps renoise its x0 afresh, the teacher's are DDIM's with η=1."""
        schedule, teacher = self.teacher.schedule, self.teacher
        plain, guided = teacher.encode(captions), teacher.encode(captions, self.card.guidance_scale or 1.0)
        plan = [(leg.student, time) for leg in legs for time in leg.timesteps]
        x = torch.randn(len(captions), *teacher.shape, generator=generator)
        for index, (student, time) in enumerate(plan):
            rows = torch.full((len(x),), time)
            x0 = teacher.x0("student" if student else "base", x, rows, plain if student else guided).float()
            if index + 1 == len(plan):
                break
            fresh = torch.randn(x.shape, generator=generator)
            following = torch.full_like(rows, plan[index + 1][1])
            if student:
                x = schedule.diffuse(x0, fresh, following)
                continue
            (alpha, sigma), (alpha_next, sigma_next) = (schedule.level(at, x.ndim) for at in (rows, following))
            variance = (sigma_next / sigma) ** 2 * (1 - (alpha / alpha_next) ** 2)
            epsilon = (x - alpha * x0) / sigma
            kept = (sigma_next**2 - variance).clamp(min=0).sqrt()
            x = alpha_next * x0 + kept * epsilon + variance.sqrt() * fresh
        return x0


@click.command()
@click.option(
    "--student",
    type=click.Path(path_type=Path, exists=True),
    default=ROOT / "plugins" / "steer_dmd2" / "weights" / "shapes-4step",
    show_default=True,
)
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "outputs" / "handover", show_default=True)
@click.option("--prompts", type=click.IntRange(1), default=168, show_default=True, help="Held-out prompts, of 240.")
@click.option("--images", type=click.IntRange(1), default=1, show_default=True, help="Images per prompt.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(student: Path, out: Path, prompts: int, images: int, threads: int) -> None:
    """Measure every way to share the work between teacher and student."""
    torch.set_num_threads(threads)
    bench = Bench(student, prompts)
    path = out / "handover.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(row) for row in path.read_text().splitlines()] if path.is_file() else []
    if any(len(row["scores"]) != images or len(row["scores"][0]) != len(bench.prompts) for row in rows):
        raise click.UsageError(f"{path} holds other numbers of prompts or images; delete it, or choose another --out")
    done = {row["route"] for row in rows}
    for name, legs in routes(max(bench.card.schedules.values(), key=len)).items():
        if name in done:
            continue
        scores = [bench.verdicts(legs, seed) for seed in range(images)]
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"route": name, "scores": scores}) + "\n")
        exact = sum(score >= 1 for row in scores for score in row) / sum(map(len, scores))
        click.echo(f"{name}: exact {exact:.3f}")


if __name__ == "__main__":
    main()
