"""From what was asked to a written report."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from steer.errors import SteerError, nearest
from steer.evaluate.compare.budgets import Budget, parse_budgets
from steer.evaluate.compare.comparison import Cell, Comparison, Tell, silent, verdict
from steer.evaluate.compare.embedding import load_embedding
from steer.evaluate.compare.folder import Folder
from steer.evaluate.compare.measure import Measurer, Settings
from steer.evaluate.compare.report import Example, example_label, report
from steer.evaluate.compare.spec import ALIASES, Entry, parse_entries
from steer.evaluate.compare.summary import Summary, summarise
from steer.evaluate.statistics import MIN_PROMPTS
from steer.prompts.prompt import Prompt
from steer.prompts.rows import as_row, parse_size
from steer.registry.plugins import manager
from steer.render.spec import tasks_of
from steer.rewards.by_name import check_judges, check_modalities, reward_names
from steer.sampling.methods_by_name import check_names
from steer.sampling.sampler import Sampler
from steer.settings.options import parse_assignments
from steer.settings.run import check_setting

EXAMPLES = 8
PREFERRED = "best-of-n"
"""The reference, where nobody names one: what every method must be held against."""
EMBEDDED = "shapes"


@dataclass(frozen=True)
class Request:
    """What ``steer compare`` was asked for; the command's options by name."""

    prompts: Sequence[Prompt]
    methods: Sequence[str]
    reward: Sequence[str]
    judge: Sequence[str]
    model: str = EMBEDDED
    tuning: Sequence[Prompt] = ()
    budget: Sequence[str] = ()
    assignments: Sequence[str] = ()
    success: float | None = None
    reference: str | None = None
    replicates: int = 1
    seed: int | None = None
    run_seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    eta: float | None = None
    scheduler: str | None = None
    size: str | None = None
    chunk: int | None = None
    embed: str | None = None
    clock: str = "wall"
    device: str | None = None
    dtype: str | None = None


def compare_all(request: Request, out: str, *, tell: Tell = silent) -> Summary:
    """Run a comparison, or what is missing of it, and write its report.

    Raises:
        SteerError: for whatever of it does not fit together, before the model is loaded where that can be known.
    """
    entries, budgets, settings, reward_options = _checked(request)
    tasks = tasks_of(list(enumerate(request.prompts)), seed=request.seed, replicates=request.replicates)
    tuning = tasks_of(list(enumerate(request.tuning)), seed=request.seed)
    reference = _reference(request, entries)
    sampler = Sampler(request.model, device=request.device, dtype=request.dtype)
    check_modalities([*request.reward, *request.judge], sampler.backbone.modality, reward_options, sampler.plugins)
    device = sampler.backbone.device
    embed = request.embed or (EMBEDDED if request.model == EMBEDDED else None)
    embedding = load_embedding(embed, sampler.plugins, device) if embed else None
    measurer = Measurer(sampler, Settings(
        request.reward, request.judge, reward_options, settings, request.run_seed, request.clock, embedding
    ))  # fmt: skip
    measurer.check([*request.prompts, *request.tuning])
    shown = _examples(request.prompts)
    folder = Folder(out)
    with folder.open(_asked(request, entries)):
        comparison = Comparison(
            measurer, folder, tasks, tuning=tuning, success=request.success, examples=shown, tell=tell
        )  # fmt: skip
        cells = comparison.run(entries, budgets)
        summary = summarise(cells, reference, request.success)
        files = report(summary, _facts(request, summary, sampler), _pictures(request, cells, folder, shown))
        for name, data in files.pictures.items():
            folder.storage.write(name, data)
        folder.storage.write("report.html", files.html.encode())
        folder.storage.write("report.md", files.markdown.encode())
        folder.storage.write("summary.json", (json.dumps(summary.as_dict(), indent=1) + "\n").encode())
    return summary


def _checked(request: Request) -> tuple[list[Entry], list[Budget], dict[str, Any], dict[str, dict[str, Any]]]:
    """Find what is wrong before a model is loaded."""
    plugins = manager()
    if not request.judge:
        raise SteerError("got no judge to compare by; name a reward that steers nothing with --judge")
    check_judges(request.reward, request.judge)
    if not request.reward:
        raise SteerError("got no reward to steer by; name one with --reward (steer plugins lists them)")
    if request.success is not None and not math.isfinite(request.success):
        raise SteerError(f"success={request.success:g}: expected a finite score of the first judge")
    if len(request.prompts) < MIN_PROMPTS:
        raise SteerError(
            f"got {len(request.prompts)} prompts, too few for an interval; expected at least {MIN_PROMPTS} (more "
            "--replicates do not help: it is prompts that differ)"
        )
    different = len({_digest({**as_row(prompt), "id": None, "seed": None}) for prompt in request.prompts})
    if different < MIN_PROMPTS:
        raise SteerError(
            f"got {len(request.prompts)} prompts of which {different} differ, too few for an interval; expected at "
            f"least {MIN_PROMPTS} different ones"
        )
    names = reward_names([*request.reward, *request.judge])
    for_rewards = [text for text in request.assignments if text.partition(".")[0] in names]
    others = [text for text in request.assignments if text not in for_rewards]
    reward_options: dict[str, dict[str, Any]] = {o: dict(t) for o, t in parse_assignments(for_rewards).items()}
    check_names([], [*request.reward, *request.judge], reward_options, plugins)
    settings = {
        "steps": request.steps, "guidance_scale": request.guidance, "eta": request.eta,
        "scheduler": request.scheduler, "chunk": request.chunk,
    }  # fmt: skip
    settings = {name: value for name, value in settings.items() if value is not None}
    if request.size is not None:
        settings["width"], settings["height"] = parse_size(request.size)
    for name, value in settings.items():
        check_setting(ALIASES.get(name, name), value)
    entries = parse_entries(request.methods, others, plugins)
    if request.tuning and not any(entry.swept for entry in entries):
        raise SteerError("--tune chooses among swept values, and there are none; sweep one, as in fk:lambda=2|5|10")
    return entries, parse_budgets(request.budget), settings, reward_options


def _reference(request: Request, entries: Sequence[Entry]) -> str:
    families = list(dict.fromkeys(entry.family for entry in entries))
    if request.reference is None:
        return PREFERRED if PREFERRED in families else families[0]
    for entry in entries:
        if request.reference == entry.family or (request.reference == entry.label and request.tuning):
            return entry.family  # which of its variants is run is known when they are tuned
        if request.reference == entry.label:
            return entry.label
    raise SteerError(
        f"reference {request.reference!r} is not compared{nearest(request.reference, families)} "
        f"(methods: {', '.join(families)})"
    )


def _asked(request: Request, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what a folder must have been begun with to be gone on with; which entries and budgets may grow."""
    rows = [as_row(prompt) for prompt in request.prompts]
    tuning = [as_row(prompt) for prompt in request.tuning]
    asked = {
        name: value for name, value in asdict(request).items()
        if name not in ("prompts", "tuning", "methods", "budget", "assignments", "reference", "device")
    }  # fmt: skip
    return {
        **asked,
        "prompts": _digest(rows),
        "tuning": _digest(tuning),
    }


def _digest(rows: Any) -> str:
    return hashlib.blake2b(json.dumps(rows, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def _examples(prompts: Sequence[Prompt]) -> list[int]:
    """Return the places of prompts that are shown: the first of each category, then evenly."""
    first: dict[str | None, int] = {}
    for place, prompt in enumerate(prompts):
        first.setdefault(prompt.category, place)
    count = min(EXAMPLES, len(prompts))
    even = [place * len(prompts) // count for place in range(count)]
    return sorted(list(dict.fromkeys([*first.values(), *even]))[:count])


def _pictures(request: Request, cells: Sequence[Cell], folder: Folder, shown: Sequence[int]) -> list[Example]:
    examples = []
    for place in shown:
        images = []
        for cell in cells:
            row = next(row for row in cell.rows if row["index"] == place and row["replicate"] == 0)
            label = example_label(cell.entry.label, None if cell.budget is None else cell.budget.key)
            told = f"{row['text']} " if "text" in row else ""
            images.append((label, folder.image(cell.name, place), f"{told}{verdict(row, None):.3f}"))
        examples.append(Example(str(request.prompts[place]), images))
    return examples


def _facts(request: Request, summary: Summary, sampler: Sampler) -> list[str]:
    dtype = str(next(sampler.backbone.denoisers["base"].parameters()).dtype).removeprefix("torch.")
    where = f"{sampler.backbone.device.type} ({platform.machine()}, {torch.get_num_threads()} threads), {dtype}"
    count = f"{len(request.prompts)} prompts" + (f" × {request.replicates} seeds" if request.replicates > 1 else "")
    facts = [
        f"Model {request.model}, {count}. Steered by {' + '.join(request.reward)}; judged by {summary.judge}, which "
        "steers nothing.",
        f"Measured on {where}, torch {torch.__version__}, seconds by the {request.clock} clock.",
        "All methods start from the same seeds. Where nothing is chosen, as with plain samples, every particle counts.",
    ]
    held = [line.budget for line in summary.lines if line.family == summary.reference]
    if len(held) > len(set(held)):
        facts.append(f"Nothing is held against {summary.reference}: it has several variants at a budget. Choose one of "
                     "them by --reference, or by --tune.")  # fmt: skip
    for line in summary.lines:
        if line.tuned:
            tried = ", ".join(f"{label} {score:.3f}" for label, score in line.tuned.items())
            facts.append(f"Tuned on {len(request.tuning)} other prompts{f' at {line.budget}' if line.budget else ''}: "
                         f"{line.label} of {tried}.")  # fmt: skip
    return facts
