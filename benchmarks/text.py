"""Re-make the texts' section of docs/results.md: steering to rare attributes at the cost of best-of-n.

    python benchmarks/text.py [--out outputs/text] [--prompts 32] [--plain 512]

Samples are kept in the output folder as soon as they are known, so that an interrupted run resumes; delete the folder
to start over. The section stands between two markers; the rest of the file is not changed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from measures import write_section
from scipy.stats import binomtest

from steer import Prompt, Sampler
from steer_shapes.sentences import ShapesGrammar
from steer_text.rewards.plain import Mentions

BEGIN, END = "<!-- text: made by benchmarks/text.py -->", "<!-- text: end -->"
PREFIX = "a ..."
PARTICLES, STEPS, PACK = 8, 24, 8
ATTRIBUTES = ("two", "crosses", "dotted,purple")
"""Words that captions which begin with "a" seldom have."""
FK: dict[str, Any] = {
    "lambda": 20.0, "potential": "diff", "pool": "tilt", "draws": 32, "start": 0.0, "end": 1.0, "every": 0.04,
    "ess_threshold": 0.9,
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """A way to look for an attribute: one text a prompt."""

    name: str
    methods: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


BEST = Config(f"best of {PARTICLES}")
STEERED = Config(f"FK, {PARTICLES} particles", ("fk",), tuple(FK.items()))


class Bench:
    """Draws texts and keeps them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._sampler: Sampler | None = None
        out.mkdir(parents=True, exist_ok=True)

    @property
    def sampler(self) -> Sampler:
        if self._sampler is None:
            self._sampler = Sampler("text:shapes", device="cpu")
        return self._sampler

    def plain(self, count: int) -> list[str]:
        """Return so many texts of the model alone."""
        file = self.out / f"plain-{count}.json"
        if not file.is_file():
            settings = {"particles": count, "steps": STEPS, "chunk": 64}
            texts = self.sampler.generate([Prompt(PREFIX, id="plain")], choose="all", **settings).texts
            file.write_text(json.dumps(texts), encoding="utf-8")
        found: list[str] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def run(self, config: Config, attribute: str, count: int) -> dict[str, Any]:
        """Return one chosen text for each of so many prompts, and what they cost."""
        file = self.out / f"{config.name}-{attribute}-{count}.json".replace(" ", "-").replace(",", "-")
        done: dict[str, Any] = {"texts": [], "nfe": 0, "reward_calls": 0}
        if file.is_file():
            done = json.loads(file.read_text(encoding="utf-8"))
        while len(done["texts"]) < count:
            ids = range(len(done["texts"]), min(count, len(done["texts"]) + PACK))
            result = self.sampler.generate(
                [Prompt(PREFIX, id=f"text-{number}") for number in ids], methods=config.methods,
                options={"fk": dict(config.options)} if config.methods else {},
                reward=[f"mentions:{attribute}", "shapes-grammar"], particles=PARTICLES, steps=STEPS, chunk=64,
            )  # fmt: skip
            done["texts"] += result.texts
            done["nfe"] += result.cost.nfe
            done["reward_calls"] += result.cost.reward_calls
            file.write_text(json.dumps(done), encoding="utf-8")
            click.echo(f"{attribute}, {config.name}: {len(done['texts'])}/{count}")
        return done


def rates(texts: list[str], attribute: str) -> tuple[list[bool], list[bool]]:
    """Return which texts mention all of an attribute's words and are captions too, and which are captions."""
    mentioned = Mentions(argument=attribute)(texts, texts) == 1
    captions = ShapesGrammar()(texts, texts) == 1
    return torch.logical_and(mentioned, captions).tolist(), captions.tolist()


def share(hits: list[bool]) -> str:
    """Return a share in per cent with its exact 95% interval (Clopper and Pearson)."""
    found = binomtest(sum(hits), len(hits)).proportion_ci()
    return f"{100 * sum(hits) / len(hits):.1f}% [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def section(bench: Bench, count: int, plain: int) -> str:
    """Draw what is missing and return the section."""
    drawn = bench.plain(plain)
    lines = [
        BEGIN,
        "## Text: rare words, steered to",
        "",
        f"The embedded text model (`text:shapes`) continues `{PREFIX}` in {STEPS} steps. Reward: `mentions:WORDS +",
        f"shapes-grammar`. Of {PARTICLES} particles the best is kept, without methods (best of {PARTICLES}), and by FK",
        "at the same number of denoiser evaluations: "
        f"`{' '.join(f'fk.{name}={value}' for name, value in FK.items())}`.",
        "A hit has all the words and is a caption of the grammar. FK scores draws of x0 before the end, which take",
        "reward calls and no denoiser evaluation; its options were chosen on other prompts, for `two` "
        "and `dotted,purple`.",
        f"Exact 95% intervals; {plain} plain texts, {count} prompts otherwise. Made by `python benchmarks/text.py`.",
        "",
        "| words | method | hits | captions | denoiser evaluations per text | reward calls per text |",
        "|---|---|---|---|---|---|",
    ]
    for attribute in ATTRIBUTES:
        hits, captions = rates(drawn, attribute)
        lines.append(f"| {attribute} | plain | {share(hits)} | {share(captions)} | {STEPS} | 0 |")
        for config in (BEST, STEERED):
            data = bench.run(config, attribute, count)
            hits, captions = rates(data["texts"], attribute)
            lines.append(
                f"| | {config.name} | {share(hits)} | {share(captions)} | {data['nfe'] / count:.0f} | "
                f"{data['reward_calls'] / count:.0f} |"
            )
    return "\n".join([*lines, END])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("outputs/text"), show_default=True)
@click.option(
    "--prompts", type=click.IntRange(1), default=32, show_default=True, help="Texts per method and attribute."
)
@click.option("--plain", type=click.IntRange(1), default=512, show_default=True, help="Plain texts.")
def main(out: Path, prompts: int, plain: int) -> None:
    """Re-make the section."""
    torch.set_num_threads(1)
    text = section(Bench(out), prompts, plain)
    write_section(text, BEGIN, END)
    click.echo(text)


if __name__ == "__main__":
    main()
