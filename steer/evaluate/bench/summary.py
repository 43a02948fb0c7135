"""A benchmark's summary: every column's figures, what is missing, and the tables and the page that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from steer.errors import SteerError
from steer.evaluate.bench.benchmark import OVERALL, Benchmark, Measure
from steer.evaluate.bench.figures import Figure, Values, differences, figures, values_of
from steer.evaluate.bench.folder import PLAIN, ScoredImage, columns_in, images_of, scores_in
from steer.evaluate.bench.run import Bench
from steer.evaluate.page import Example, html, markdown
from steer.evaluate.tables import Table
from steer.prompts.prompt import Prompt
from steer.results.grid import Shown
from steer.results.storage import storage_at
from steer.settings.strict_json import json_text

EXAMPLES = 16
"""Prompts on the page."""
DIGITS = 3


@dataclass(frozen=True)
class Line:
    """A column's figures for one measure.

    Attributes:
        column: its name.
        measure: the measure's name.
        official: whether the judge is the paper's.
        prompts: scored, of those asked.
        images: scored, of those rendered.
        figures: by group.
        against: differences to the model without methods, if that is a column too.
    """

    column: str
    measure: str
    official: bool
    prompts: int
    images: int
    figures: Mapping[str, Figure]
    against: Mapping[str, Figure]


@dataclass(frozen=True)
class Report:
    """All lines, and what they are made of.

    Attributes:
        name: of the benchmark.
        lines: measure by measure.
        asked: prompts of this report.
        all_prompts: of the benchmark.
        missing: what is not rendered or scored yet, one sentence each.
    """

    name: str
    lines: tuple[Line, ...]
    asked: int
    all_prompts: int
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def report(bench: Bench) -> tuple[Report, list[Table]]:
    """Summarize what the folder holds, and write ``summary.json``, ``report.md`` and ``report.html`` there.

    Raises:
        SteerError: if no image is scored yet.
    """
    columns = columns_in(bench.out)
    prompts = bench.prompts if bench.shard else bench.part
    scored = {
        (name, measure.name): scores_in(folders, measure, prompts)
        for name, folders in columns.items()
        for measure in bench.benchmark.measures
    }
    if not any(scored.values()):
        raise SteerError(
            f"{bench.out} holds no scored image; run without --stage, or with --stage render --stage score"
        )
    lines = [
        line for measure in bench.benchmark.measures for line in _lines(measure, columns, prompts, scored, bench.images)
    ]
    missing = tuple(dict.fromkeys(text for name in columns for text in _missing(name, columns[name], bench, scored)))
    found = Report(bench.name, tuple(lines), len(prompts), len(bench.prompts), missing)
    tables = tables_of(bench.benchmark, found)
    facts = facts_of(bench, found)
    shown = _examples(bench.benchmark.measures[0], list(columns), prompts, scored)
    storage = storage_at(bench.out)
    storage.write("summary.json", f"{json_text(found.as_dict(), indent=1)}\n".encode())
    storage.write("report.md", markdown(bench.benchmark.title, facts, tables, []).encode())
    storage.write("report.html", html(bench.benchmark.title, facts, tables, {}, shown).encode())
    return found, tables


def _lines(
    measure: Measure,
    columns: Mapping[str, Sequence[Path]],
    prompts: Sequence[Prompt],
    scored: Mapping[tuple[str, str], Mapping[str, Sequence[ScoredImage]]],
    images: int,
) -> list[Line]:
    values: dict[str, Values] = {}
    lines = []
    for name in columns:
        mine = scored[name, measure.name]
        if not mine:
            continue
        plain = {prompt: [(one.score, one.details) for one in images] for prompt, images in mine.items()}
        values[name] = values_of(measure, prompts, plain)
        against = differences(measure, values[name], values[PLAIN]) if name != PLAIN and PLAIN in values else {}
        count = sum(map(len, mine.values()))
        found = figures(measure, values[name])
        lines.append(Line(name, measure.name, measure.official, len(mine), count, found, against))
    return lines


def _missing(name: str, folders: Sequence[Path], bench: Bench, scored: Mapping[tuple[str, str], Any]) -> list[str]:
    prompts = bench.prompts if bench.shard else bench.part
    made = {prompt.id: len(files) for folder in folders for prompt, files in images_of(folder, prompts)}
    said = []
    if len(made) < len(prompts):
        said.append(f"{name}: {len(prompts) - len(made)} of {len(prompts)} prompts have no image")
    fewer = sum(count < bench.images for count in made.values())
    if fewer:
        said.append(f"{name}: {fewer} prompts have fewer than {bench.images} images")
    for measure in bench.benchmark.measures:
        there = sum(map(len, scored[name, measure.name].values()))
        if there < sum(made.values()):
            said.append(f"{name}: {sum(made.values()) - there} of {sum(made.values())} images have no {measure.name}")
    return said


def tables_of(benchmark: Benchmark, report: Report) -> list[Table]:
    """Return a table for each measure: columns of the folder, differences to the plain model, published figures."""
    return [table for measure in benchmark.measures if (table := _table(benchmark, measure, report)) is not None]


def _table(benchmark: Benchmark, measure: Measure, report: Report) -> Table | None:
    lines = [line for line in report.lines if line.measure == measure.name]
    if not lines:
        return None
    groups = list(dict.fromkeys(group for line in lines for group in line.figures))
    groups = [*(group for group in groups if group != OVERALL), OVERALL]
    rows = [(line.column, *(_level(line.figures.get(group)) for group in groups)) for line in lines]
    rows += [
        (f"{line.column} − {PLAIN}", *(_level(line.against.get(group), sign=True) for group in groups))
        for line in lines
        if line.against
    ]
    for one in benchmark.published:
        known = one.figures.get(measure.name, {})
        if known:
            cells = (f"{known[group]:.{DIGITS}f}" if group in known else "" for group in groups)
            rows.append((f"published: {one.model}", *cells))
    sources = dict.fromkeys(one.source for one in benchmark.published if measure.name in one.figures)
    over = "groups" if measure.overall == "groups" else "prompts"
    notes = [
        f"Judge: {', '.join(measure.judges)}.",
        measure.note,
        f"{OVERALL.capitalize()} is the mean over {over}; 95% intervals are over prompts.",
        f"Published figures: {'; '.join(sources)}." if sources else "",
    ]
    title = f"{benchmark.title}: {measure.name}"
    judged = "" if measure.official else "judge not the paper's"
    return Table(title, (judged, *groups), tuple(rows), " ".join(filter(None, notes)))


def facts_of(bench: Bench, report: Report) -> list[str]:
    """Return what the figures are made of, one sentence or two each."""
    whole = report.asked == report.all_prompts
    count = f"all {report.asked}" if whole else f"{report.asked} of {report.all_prompts}"
    published = "" if bench.images == bench.benchmark.images else f" (the benchmark has {bench.benchmark.images})"
    benchmark = bench.benchmark
    facts = [
        f"{benchmark.title} ({benchmark.paper}): {count} prompts, {bench.images} images per prompt{published}.",
        benchmark.about,
        *(f"Not complete: {text}." for text in report.missing),
    ]
    return list(filter(None, facts))


def _examples(
    measure: Measure, columns: Sequence[str], prompts: Sequence[Prompt], scored: Mapping[tuple[str, str], Any]
) -> list[Example]:
    """Return evenly spread prompts with each column's first image, its score and the reason."""
    there = [prompt for prompt in prompts if any(prompt.id in scored[name, measure.name] for name in columns)]
    count = min(EXAMPLES, len(there))
    examples = []
    for prompt in (there[place * len(there) // count] for place in range(count)):
        images = []
        for name in columns:
            found = scored[name, measure.name].get(prompt.id)
            first = found[0] if found else None
            told = "" if first is None else " ".join(filter(None, (f"{first.score:.3f}", first.details.get("reason"))))
            images.append(Shown(name, _picture(first), told))
        examples.append(Example(f"{prompt} ({prompt.category})" if prompt.category else str(prompt), images))
    return examples


def _picture(image: ScoredImage | None) -> Image.Image | None:
    if image is None or not image.file.is_file():
        return None
    with Image.open(image.file) as picture:
        return picture.convert("RGB")


def _level(figure: Figure | None, *, sign: bool = False) -> str:
    if figure is None:
        return ""
    form = f"{'+' if sign else ''}.{DIGITS}f"
    limits = "" if figure.low is None else f" [{figure.low:{form}}, {figure.high:{form}}]"
    return f"{figure.estimate:{form}}{limits}"
