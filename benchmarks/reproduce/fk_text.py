"""FK steering of text (arXiv 2501.06848): MDLM towards toxicity, the table of the paper.

    python benchmarks/reproduce/fk_text.py [--particles 4 …] [--seed 1234 …] [--smoke]

15 prefixes of PPLM with 20 texts each and three seeds; 1000 steps, 128 tokens, λ = 10, the potential ``diff``,
resampling every 20 steps, 4 draws of x0; the reward reads 100 tokens, the measures the first 50 behind the prefix. The
steered texts are offensive: they show that rare attributes can be reached. Run again with the same --out to resume.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from protocol import Protocol, options, samples_of
from tiny_texts import tiny_models

from steer.evaluate.measure.texts import distinct
from steer.models.media.text import Texts
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward

PREFIXES = (
    "Once upon a time", "The book", "The chicken", "The city", "The country", "The horse", "The lake", "The last time",
    "The movie", "The painting", "The pizza", "The potato", "The president of the country", "The road",
    "The year is 1910.",
)  # fmt: skip
"""PPLM's (Dathathri et al. 2020, arXiv 1912.02164)."""
PAPER = {
    "plain": (0.3, 2.3, 79.2, "56/91/94"),
    "best-of-n k=4": (2.0, 4.0, 83.2, "56/89/93"), "best-of-n k=8": (3.7, 10.3, 89.5, "58/91/93"),
    "fk k=4": (22.0, 28.3, 72.6, "55/88/92"), "fk k=8": (52.3, 43.3, 77.8, "56/88/91"),
}  # fmt: skip
"""Toxic and toxic (held-out) in percent, perplexity of GPT2-XL, dist-1/2/3 in percent."""
TOXIC = "classifier:s-nlp/roberta_toxicity_classifier/toxic"
HELD_OUT = "classifier:textdetox/xlmr-large-toxicity-classifier/LABEL_1"
ACCEPTABLE = "classifier:textattack/roberta-base-CoLA/LABEL_1"
CAUSAL = "openai-community/gpt2-xl"
SIZES = ["--steps", 1000, "--length", 128, "--replicates", 20]
TRIMMED = 50
"""Tokens of RoBERTa that are measured."""


@options("fk_text")
@click.option("--particles", multiple=True, type=int, default=(4, 8), show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=(1234, 2345, 3456), show_default=True)
def main(out: Path, smoke: bool, particles: tuple[int, ...], seeds: tuple[int, ...]) -> None:
    """Reproduce the table of toxicity."""
    protocol = Protocol("FK steering, text: toxicity", "arXiv 2501.06848, table of toxicity", out, smoke=smoke)
    judges = {"toxic": TOXIC, "toxic, held-out": HELD_OUT, "CoLA": ACCEPTABLE}
    model, causal, prefixes = "kuleshov-group/mdlm-owt", CAUSAL, PREFIXES
    if smoke:
        folders = tiny_models(out / "models")
        judges = dict.fromkeys(judges, f"classifier:{folders['classifier']}/toxic")
        model, causal, prefixes = str(folders["mdlm"]), str(folders["causal"]), PREFIXES[:3]
        seeds, particles = seeds[:1], (2,)
    prompts = out / "prompts.jsonl"
    prompts.write_text("".join(f"{json.dumps({'prompt': text})}\n" for text in prefixes))
    sizes = ["--steps", 8, "--length", 16, "--replicates", 2] if smoke else SIZES
    common = [
        "render", prompts, "-m", f"text:{model}", *sizes, "--choose", "best", "-r", judges["toxic"],
        "-o", "classifier.log=true", "-o", "classifier.max_tokens=100",
    ]  # fmt: skip
    fk = [
        "-p", "fk", "-o", "fk.potential=diff", "-o", "fk.lambda=10", "-o", "fk.start=0", "-o", "fk.end=1",
        "-o", f"fk.every={0.25 if smoke else 0.02}", "-o", "fk.draws=4",
    ]  # fmt: skip
    rows = {"plain": ["-n", 1]}
    for k in particles:
        rows |= {f"best-of-n k={k}": ["-p", "best-of-n", "-n", k], f"fk k={k}": [*fk, "-n", k]}
    short = trimmer(smoke)
    for name, how in rows.items():
        texts: dict[str, list[str]] = {}
        for seed in seeds:
            place = out / f"{name.replace(' ', '-')}-seed{seed}"
            protocol.steer(*common, *how, "--run-seed", seed, "--out", place)
            for prompt, samples in samples_of(place).items():
                written = [(place / row["file_name"]).read_text(encoding="utf-8") for row in samples]
                texts.setdefault(prompt, []).extend(short(text.strip()[len(prompt) :]) for text in written)
        toxic, held, perplexity, dist = PAPER.get(name, ("", "", "", ""))
        for what, known in (("toxic", toxic), ("toxic, held-out", held), ("CoLA", "")):
            shares = _shares(texts, judges[what])
            protocol.add(f"{name}: {what}, %", shares, str(known))
        protocol.add(f"{name}: perplexity", _perplexities(texts, causal), str(perplexity))
        for n, known in zip((1, 2, 3), dist.split("/") if dist else ("", "", ""), strict=True):
            protocol.add(f"{name}: dist-{n}, %", [100 * distinct(found, n) for found in texts.values()], known)
    protocol.unchecked += [
        "the paper's rows with a learned or a many-sample reward, SSD-LM, and the reward by infini-gram",
        "perplexity: ours conditions on the beginning token too",
        "the paper's first line break before each prefix",
    ]
    protocol.report()


def trimmer(smoke: bool) -> Callable[[str], str]:
    """Return what cuts a continuation to the tokens that are measured."""
    if smoke:
        return lambda text: " ".join(text.split(" ")[:TRIMMED])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("FacebookAI/roberta-large")
    return lambda text: tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)[:TRIMMED])


def _shares(texts: dict[str, list[str]], judge: str) -> list[float]:
    """Return the percentage of each prompt's texts that have a label, the likelier of two."""
    reward = make_reward([judge], {}, manager(), _device())
    assert reward is not None
    shares = []
    for prompt, found in texts.items():
        scores = reward(Texts([f"{prompt}{text}" for text in found]), [prompt] * len(found))
        shares.append(100 * float((scores > 0.5).double().mean()))
    return shares


def _perplexities(texts: dict[str, list[str]], causal: str) -> list[float]:
    """Return each prompt's mean perplexity of continuations given the prefix; 10,000 and more are left out."""
    from transformers import AutoTokenizer

    reward = make_reward([f"fluency:{causal}"], {}, manager(), _device())
    assert reward is not None
    tokenizer = AutoTokenizer.from_pretrained(causal)

    def total(rows: list[str]) -> list[tuple[float, int]]:
        counts = [len(tokenizer.encode(text, add_special_tokens=False)) for text in rows]
        scores = reward(Texts(rows), [""] * len(rows)).tolist()
        return [(score * count, count) for score, count in zip(scores, counts, strict=True)]

    found = []
    for prompt, parts in texts.items():
        (before, given), *rest = total([prompt, *(f"{prompt}{part}" for part in parts)])
        each = [math.exp(min(20.0, -(score - before) / (count - given))) for score, count in rest if count > given]
        kept = [value for value in each if value < 1e4]
        if kept:
            found.append(float(np.mean(kept)))
    return found


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
