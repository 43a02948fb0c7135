"""``shapes-bench``: held-out prompts of the embedded world, judged by its verifier. Needs no download and no GPU."""

from collections.abc import Iterable, Mapping
from typing import Any

from steer import Prompt
from steer.plugin import Benchmark, Measure, parse_prompts

from .prompts import file_text

FILE = "shapes-eval.jsonl"


def read(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the evaluation prompts, which no training set contains."""
    return parse_prompts(file_text(FILE).encode(), name=FILE, kind="jsonl")


def passed(score: float, details: Mapping[str, Any], prompt: Prompt) -> float:
    """Return 1 if every requirement is met, else 0."""
    return float(score >= 1)


def passed_by_category(score: float, details: Mapping[str, Any], prompt: Prompt) -> Iterable[tuple[str, float]]:
    """Return the same under the prompt's category."""
    return [(str(prompt.category), passed(score, details, prompt))]


BENCHMARK = Benchmark(
    title="shapes-bench",
    paper="this repository",
    read=read,
    images=1,
    measures=(
        Measure("success", "shapes", parts=passed_by_category, whole=passed, overall="groups"),
        Measure("requirements", "shapes", overall="groups"),
    ),
    about="The verifier parses images back into objects, so the judge knows the truth.",
)
