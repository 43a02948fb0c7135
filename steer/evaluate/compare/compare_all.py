"""``compare_all``: run a whole comparison, from the request to the written report."""

import hashlib
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steer.errors import SteerError, nearest
from steer.evaluate.compare.budgets import Budget, parse_budgets
from steer.evaluate.compare.comparison import Cell, Comparison, Tell, silent
from steer.evaluate.compare.embedding import load_embedding
from steer.evaluate.compare.folder import Folder
from steer.evaluate.compare.measure import Measurer, Settings
from steer.evaluate.compare.report import example_label, report
from steer.evaluate.compare.spec import Entry, parse_entries
from steer.evaluate.compare.summary import Summary, summarize
from steer.evaluate.page import Example
from steer.evaluate.statistics import MIN_PROMPTS
from steer.models.device import dtype_of
from steer.models.options import ModelOptions
from steer.prompts.prompt import Prompt
from steer.prompts.rows import as_row
from steer.registry.plugins import manager
from steer.render.spec import tasks_of
from steer.results.grid import Shown
from steer.rewards.by_name import check_judges, check_modalities, reward_names
from steer.sampling.methods_by_name import check_names
from steer.sampling.request import SamplingRequest
from steer.sampling.sampler import Sampler
from steer.settings.options import parse_assignments
from steer.settings.run_settings import as_typed, check_modality
from steer.settings.strict_json import json_text

EXAMPLES = 8
PREFERRED = "best-of-n"
"""The reference if the user names none: every method must be compared with it."""
EMBEDDED = "shapes"


@dataclass(frozen=True)
class Request:
    """The arguments of ``steer compare``.

    Attributes:
        prompts: the prompts that every method samples.
        methods: specs of the methods to compare (:mod:`steer.evaluate.compare.spec`).
        sampling: model, reward, judges, seeds, and the settings of methods that do not set their own.
        tuning: other prompts, on which swept values are chosen.
        budget: budgets per prompt, as typed.
        assignments: options of methods, rewards and entries, as typed.
        success: score of the first judge that counts as a success.
        reference: the method that the others are compared with.
        replicates: independent samples per prompt.
        embed: name of the CLIP that measures the spread of images.
        clock: the clock of seconds, ``"wall"`` or ``"cpu"``.
    """

    prompts: Sequence[Prompt]
    methods: Sequence[str]
    sampling: SamplingRequest
    tuning: Sequence[Prompt] = ()
    budget: Sequence[str] = ()
    assignments: Sequence[str] = ()
    success: float | None = None
    reference: str | None = None
    replicates: int = 1
    embed: str | None = None
    clock: str = "wall"


def compare_all(request: Request, out: str, *, tell: Tell = silent) -> Summary:
    """Run the missing parts of a comparison, and write its report.

    Raises:
        SteerError: if the arguments contradict each other, before the model is loaded if possible.
    """
    asked = request.sampling
    entries, budgets, reward_options = _checked(request)
    tasks = tasks_of(list(enumerate(request.prompts)), seed=asked.seed, replicates=request.replicates)
    tuning = tasks_of(list(enumerate(request.tuning)), seed=asked.seed)
    reference = _reference(request, entries)
    sampler = asked.sampler()
    settings, modality = asked.settings.given(), sampler.backbone.modality
    for name in settings:
        check_modality(name, modality)
    check_modalities([*asked.reward, *asked.judge], modality, reward_options, sampler.plugins)
    device = sampler.backbone.device
    embed = request.embed or (EMBEDDED if asked.model == EMBEDDED else None)
    embedding = load_embedding(embed, sampler.plugins, device) if embed else None
    common = Settings(asked.reward, asked.judge, reward_options, settings, asked.run_seed, request.clock, embedding)
    measurer = Measurer(sampler, common)
    measurer.check([*request.prompts, *request.tuning])
    shown = _examples(request.prompts)
    folder = Folder(out)
    with folder.open(_asked(request)):
        comparison = Comparison(
            measurer, folder, tasks, tuning=tuning, success=request.success, examples=shown, tell=tell
        )
        cells = comparison.run(entries, budgets)
        summary = summarize(cells, reference, request.success)
        files = report(summary, _facts(request, summary, sampler), _pictures(request, cells, folder, shown))
        for name, data in files.items():
            folder.storage.write(name, data)
        folder.storage.write("summary.json", f"{json_text(summary.as_dict(), indent=1)}\n".encode())
    return summary


def _checked(request: Request) -> tuple[list[Entry], list[Budget], dict[str, dict[str, Any]]]:
    """Find mistakes before a model is loaded."""
    plugins, asked = manager(), request.sampling
    if not asked.judge:
        raise SteerError("got no judge to compare by; name a reward that steers nothing with --judge")
    check_judges(asked.reward, asked.judge)
    if not asked.reward:
        raise SteerError("got no reward to steer by; name one with --reward (steer plugins lists them)")
    if request.success is not None and not math.isfinite(request.success):
        raise SteerError(f"success={request.success:g}: expected a finite score of the first judge")
    if len(request.prompts) < MIN_PROMPTS:
        raise SteerError(
            f"got {len(request.prompts)} prompts, too few for an interval; expected at least {MIN_PROMPTS} (more "
            "--replicates do not help: the interval is over prompts)"
        )
    different = len({_digest({**as_row(prompt), "id": None, "seed": None}) for prompt in request.prompts})
    if different < MIN_PROMPTS:
        raise SteerError(
            f"got {len(request.prompts)} prompts of which {different} differ, too few for an interval; expected at "
            f"least {MIN_PROMPTS} different ones"
        )
    names = reward_names([*asked.reward, *asked.judge])
    for_rewards = [text for text in request.assignments if text.partition(".")[0] in names]
    others = [text for text in request.assignments if text not in for_rewards]
    reward_options: dict[str, dict[str, Any]] = {o: dict(t) for o, t in parse_assignments(for_rewards).items()}
    check_names([], [*asked.reward, *asked.judge], reward_options, plugins)
    if asked.settings.particles is not None and request.budget:
        raise SteerError("got both particles and a budget, which decides the particles; drop --particles or --budget")
    entries = parse_entries(request.methods, others, plugins)
    if request.tuning and not any(entry.swept for entry in entries):
        raise SteerError("--tune chooses among swept values, and there are none; sweep one, as in fk:lambda=2|5|10")
    return entries, parse_budgets(request.budget), reward_options


def _reference(request: Request, entries: Sequence[Entry]) -> str:
    families = list(dict.fromkeys(entry.family for entry in entries))
    if request.reference is None:
        return PREFERRED if PREFERRED in families else families[0]
    for entry in entries:
        if request.reference == entry.family or (request.reference == entry.label and request.tuning):
            return entry.family  # tuning decides later which of its variants is run
        if request.reference == entry.label:
            return entry.label
    raise SteerError(
        f"reference {request.reference!r} is not compared{nearest(request.reference, families)} "
        f"(methods: {', '.join(families)})"
    )


def _asked(request: Request) -> dict[str, Any]:
    """Return the facts that must be equal to resume a folder; entries and budgets may be added."""
    sampling = request.sampling
    return {
        "reward": sampling.reward,
        "judge": sampling.judge,
        "model": sampling.model,
        "model_options": {k: v for k, v in sampling.model_options.as_dict().items() if v != getattr(ModelOptions, k)},
        "dtype": sampling.dtype,
        "seed": sampling.seed,
        "run_seed": sampling.run_seed,
        **as_typed(sampling.settings.given()),
        "success": request.success,
        "replicates": request.replicates,
        "embed": request.embed,
        "clock": request.clock,
        "prompts": _digest([as_row(prompt) for prompt in request.prompts]),
        "tuning": _digest([as_row(prompt) for prompt in request.tuning]),
    }


def _digest(rows: Any) -> str:
    return hashlib.blake2b(json_text(rows, sort_keys=True).encode(), digest_size=8).hexdigest()


def _examples(prompts: Sequence[Prompt]) -> list[int]:
    """Return the numbers of the prompts to show: the first of each category, then evenly spread ones."""
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
            score = next(iter(row["judges"].values()))[row["chosen"][0]]  # of the image that is shown
            passed = None if request.success is None else score >= request.success
            images.append(Shown(label, folder.image(cell.name, place), f"{told}{score:.3f}", passed))
        examples.append(Example(str(request.prompts[place]), images))
    return examples


def _facts(request: Request, summary: Summary, sampler: Sampler) -> list[str]:
    dtype = str(dtype_of(sampler.backbone.denoisers["base"])).removeprefix("torch.")
    where = f"{sampler.backbone.device.type} ({platform.machine()}, {torch.get_num_threads()} threads), {dtype}"
    count = f"{len(request.prompts)} prompts" + (f" × {request.replicates} seeds" if request.replicates > 1 else "")
    rewards = " + ".join(map(str, request.sampling.reward))
    facts = [
        f"Model {request.sampling.model}, {count}. Steered by {rewards}; judged by {summary.judge}, which "
        "steers nothing.",
        f"Measured on {where}, torch {torch.__version__}, seconds by the {request.clock} clock.",
        "All methods start from the same seeds. Where nothing is chosen, as with plain samples, every particle counts.",
    ]
    held = [line.budget for line in summary.lines if line.family == summary.reference]
    if len(held) > len(set(held)):
        facts.append(
            f"Nothing is held against {summary.reference}: it has several variants at a budget. Choose one of them by "
            "--reference, or by --tune."
        )
    for line in summary.lines:
        if line.tuned:
            tried = ", ".join(f"{label} {score:.3f}" for label, score in line.tuned.items())
            at = f" at {line.budget}" if line.budget else ""
            facts.append(f"Tuned on {len(request.tuning)} other prompts{at}: {line.label} of {tried}.")
    return facts
