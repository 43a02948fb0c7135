"""A benchmark's stages, each of which resumes: render the prompts, score the images, report the figures.

The folder has one subfolder per column, which is an ordinary render with its scores beside it; a shard's has the shard
in its name. Further methods are further columns of the same folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.evaluate.bench.benchmark import Benchmark, Details, Measure
from steer.evaluate.bench.prompts import digest_of
from steer.evaluate.compare.folder import slug
from steer.evaluate.score.files import FileError
from steer.evaluate.score.rows import Row, ScoreFile, read_rows
from steer.evaluate.score.score import score_files
from steer.models.device import pick_device
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.render.journal import Journal
from steer.render.renderer import MakeEngine, Renderer
from steer.render.spec import Spec
from steer.render.watcher import Plan, Summary, Watcher
from steer.results.claims import check_others
from steer.results.storage import storage_at
from steer.rewards.by_name import OptionValues, check_judges, check_modalities, check_rewards, make_reward, reward_names
from steer.sampling.request import SamplingRequest
from steer.settings.strict_json import json_text

PLAIN = "plain"
"""The column of the model without methods."""
ASKED, SCORES = "bench.json", "scores"


@dataclass(frozen=True)
class ScoredImage:
    """An image's file, its score, and what the score comes from."""

    file: Path
    score: float
    details: Details


Tell = Callable[[int, int, str], None]
"""Gets the images done, those in all, and what is done."""


@dataclass(frozen=True)
class Column:
    """One way to sample.

    Attributes:
        name: of its folder and its row in the tables.
        request: model, methods and settings.
        values: content of its ``run.toml``.
    """

    name: str
    request: SamplingRequest
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Bench:
    """Everything that is asked.

    Attributes:
        name: of the benchmark.
        benchmark: its specification, with the judges that are used.
        prompts: all of them.
        part: those of this run: a limit, a shard.
        columns: to render and score.
        out: the folder.
        images: per prompt.
        shard: number and count.
        options: of the judges.
        device: of the judges.
    """

    name: str
    benchmark: Benchmark
    prompts: Sequence[Prompt]
    part: Sequence[Prompt]
    columns: Sequence[Column]
    out: Path
    images: int
    shard: tuple[int, int] | None = None
    options: OptionValues = field(default_factory=dict)
    device: str | None = None

    def check(self) -> None:
        """Find the mistakes that can be found before a model is loaded, and keep the folder for this benchmark.

        Raises:
            SteerError: for a judge that also steers, is unknown, scores no images or has no weights here, and for a
                folder of something else.
        """
        judges = self.benchmark.judges
        for column in self.columns:
            check_judges(column.request.reward, judges)
        check_modalities(judges, "image", self.options, manager(), "a benchmark judges")
        check_rewards(judges, self.options, manager())
        storage = storage_at(self.out)
        storage.check()
        check_others(storage, "bench")
        asked = {"benchmark": self.name, "prompts": digest_of(self.prompts), "images": self.images}
        stored = _object(storage.read(ASKED), storage.url(ASKED))
        if stored is None:
            storage.write(ASKED, f"{json_text(asked, indent=1)}\n".encode())
        elif stored != asked:
            different = " and ".join(sorted(key for key in asked if stored.get(key) != asked[key]))
            raise SteerError(
                f"{self.out} holds a benchmark with other {different} ({stored.get('benchmark')}, "
                f"{stored.get('images')} images per prompt); choose another --out"
            )

    def folder(self, column: str) -> Path:
        """Return the folder of a column, or of this run's shard of it."""
        shard = "" if self.shard is None else f".{self.shard[0]}-of-{self.shard[1]}"
        return self.out / f"{slug_of(column)}{shard}"


def with_judges(benchmark: Benchmark, given: Sequence[str]) -> Benchmark:
    """Return a benchmark with other judges.

    ``MEASURE=EXPR`` replaces a measure's judge. ``EXPR`` alone replaces the judge of the measures that have the same
    reward with another argument; any other reward becomes a measure of its own, the mean over groups or prompts as of
    the main measure. With ``EXPR`` alone, measures that nobody named are left out.

    Raises:
        SteerError: for several judges of one measure.
    """
    names = [measure.name for measure in benchmark.measures]
    chosen: dict[str, str] = {}
    own: list[str] = []
    for text in given:
        name, equals, expression = text.partition("=")
        if equals and name in names:
            wanted = {name: expression}
        else:
            wanted = {one.name: text for one in benchmark.measures if _same_reward(one, text)}
            own += [] if wanted else [text]
        for name in wanted:
            if name in chosen:
                raise SteerError(f"judge {text[:60]!r}: {name} has a judge already; give each measure one, {name}=EXPR")
        chosen |= wanted
    kept = [one for one in benchmark.measures if one.name in chosen or not own]
    measures = [_judged(one, chosen[one.name]) if one.name in chosen else one for one in kept]
    measures += [_plainly(benchmark.measures[0], text, text) for text in dict.fromkeys(own)]
    comparable = {one.name for one in kept if one.name not in chosen or _same_reward(one, chosen[one.name])}
    published = [
        replace(one, figures={name: figures for name, figures in one.figures.items() if name in comparable})
        for one in benchmark.published
    ]
    return replace(benchmark, measures=tuple(measures), published=tuple(published))


def _same_reward(measure: Measure, expression: str) -> bool:
    return reward_names([expression]) == reward_names(list(measure.judges))


def _judged(measure: Measure, expression: str) -> Measure:
    """Return a measure with another judge; parts and scale fit only the reward that it is defined by."""
    if not _same_reward(measure, expression):
        return _plainly(measure, measure.name, expression)
    return replace(measure, judge=expression, note=_official(measure))


def _plainly(measure: Measure, name: str, expression: str) -> Measure:
    return Measure(name, expression, overall=measure.overall, note=_official(measure))


def _official(measure: Measure) -> str:
    return f"The judge is not the benchmark's ({', '.join(measure.judges)})."


def columns_of(name: str, request: SamplingRequest, values: Mapping[str, Any], *, plain: bool) -> list[Column]:
    """Return the column of a request, and before it that of the model without methods.

    Args:
        name: of the column; empty for the methods' names.
        request: as asked.
        values: content of its ``run.toml``.
        plain: whether to add the model without methods.
    """
    methods = [method if isinstance(method, str) else type(method).__name__ for method in request.methods]
    own = Column(name or "+".join(Path(method).stem for method in methods) or PLAIN, request, values)
    if not methods or not plain or own.name == PLAIN:
        return [own]
    steering = ("plugin", "reward", "options", "particles", "choose")
    bare = replace(
        request, methods=(), reward=(), judge=(), options={}, choose=None,
        settings=request.settings.having(particles=None),
    )  # fmt: skip
    rest = {key: value for key, value in values.items() if key not in steering}
    return [Column(PLAIN, bare, {**rest, "options": {}}), own]


def render(bench: Bench, engine: Callable[[Watcher], MakeEngine], watch: Callable[[], Any]) -> Iterator[Summary]:
    """Render the missing prompts of each column.

    Args:
        bench: what is asked.
        engine: makes an engine's maker for a watcher of its progress.
        watch: makes a watcher, which is also a context manager.

    Yields:
        The summary of each column; after one that was stopped, no further column is begun.

    Raises:
        SteerError: for mistakes in the settings; see :class:`steer.render.Renderer`.
    """
    for column in bench.columns:
        watcher = watch()
        renderer = Renderer(
            bench.folder(column.name), Spec(column.request, replicates=bench.images), engine(watcher),
            values={**column.values, "replicates": bench.images}, watcher=_Pictured(watcher, bench.name),
            retry_failed=True,
        )  # fmt: skip
        with watcher:
            summary = renderer.render(bench.part)
        yield summary
        if summary.stopped:
            return


class _Pictured:
    """A watcher that ends a render of anything but images before it begins."""

    def __init__(self, watcher: Watcher, name: str) -> None:
        self._watcher, self._name = watcher, name

    def begin(self, plan: Plan, place: str) -> None:
        """Check what the model makes."""
        if plan.modality != "image":
            raise SteerError(f"benchmark {self._name} is for images, and this model makes {plan.modality}s")
        self._watcher.begin(plan, place)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watcher, name)


def score(bench: Bench, *, batch: int, tell: Tell) -> Iterator[FileError]:
    """Score the images of each column that have no score yet, judge by judge: one judge is in memory at a time.

    Yields:
        The errors of files that cannot be scored.

    Raises:
        SteerError: if nothing is rendered, or a judge fails.
    """
    device = pick_device(bench.device)
    for expression in bench.benchmark.judges:
        reward = make_reward([expression], bench.options, manager(), device)
        assert reward is not None
        for column in bench.columns:
            folder = bench.folder(column.name)
            prompts = {
                file: reward.completed(prompt)
                for prompt, files in images_of(folder, bench.part)
                for file in files
                if any(measure.judge_of(prompt) == expression for measure in bench.benchmark.measures)
            }
            if not prompts:
                continue
            kept = ScoreFile(score_file(folder, expression))
            with kept.open():
                known = _of_file(kept.done)
                outcomes = score_files(
                    list(prompts), {expression: reward}, _Known(prompts), batch=batch, device=device,
                    done={str(file): known[file.name] for file in prompts if file.name in known}, keep=kept.add,
                    options=bench.options,
                )  # fmt: skip
                for done, outcome in enumerate(outcomes, 1):
                    tell(done, len(prompts), f"{column.name}: {expression}")
                    if isinstance(outcome, FileError):
                        yield outcome


@dataclass(frozen=True)
class _Known:
    """The prompts of images, as :func:`score_files` asks for them."""

    prompts: Mapping[Path, Prompt]

    def of(self, path: Path, texts: Mapping[str, str]) -> Prompt:
        """Return an image's prompt."""
        return self.prompts[path]


def images_of(folder: Path, prompts: Sequence[Prompt]) -> list[tuple[Prompt, list[Path]]]:
    """Return the rendered images of prompts; prompts without one are left out."""
    found: dict[str, list[tuple[int, Path]]] = {}
    if (folder / "run.toml").is_file():
        for row in Journal(storage_at(folder)).rows():
            number = int(row.get("replicate", 0))
            if row["status"] == "done":
                name = row["id"].removesuffix(f".r{number + 1}") if number else row["id"]
                found.setdefault(name, []).extend((number, folder / file) for file in row["files"])
    return [
        (prompt, [file for _, file in sorted(found[prompt.id], key=lambda pair: pair[0])])
        for prompt in prompts
        if prompt.id in found
    ]


def score_file(folder: Path, expression: str) -> Path:
    """Return the file with a judge's scores of a column."""
    return folder / SCORES / f"{slug(expression)}.jsonl"


def columns_in(out: Path) -> dict[str, list[Path]]:
    """Return the folders of each column in a benchmark's folder: one, or one per shard."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(path.parent for path in out.glob("*/run.toml")):
        name = re.sub(r"\.\d+-of-\d+$", "", folder.name)
        found.setdefault(name, []).append(folder)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != PLAIN, pair[0])))


def scores_in(folders: Sequence[Path], measure: Measure, prompts: Sequence[Prompt]) -> dict[str, list[ScoredImage]]:
    """Return a column's scored images by prompt's id; images without a score are left out."""
    found: dict[str, list[ScoredImage]] = {}
    for folder in folders:
        rows = {expression: _of_file(read_rows(score_file(folder, expression))) for expression in measure.judges}
        for prompt, files in images_of(folder, prompts):
            expression = measure.judge_of(prompt)
            for file in files:
                if (row := rows[expression].get(file.name)) is not None:
                    image = ScoredImage(file, row.scores[expression], row.details.get(expression, {}))
                    found.setdefault(prompt.id, []).append(image)
    return found


def _of_file(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return a column's rows by file name: the folder may have been moved."""
    return {Path(file).name: row for file, row in rows.items()}


def slug_of(column: str) -> str:
    """Return the folder of a column.

    Raises:
        SteerError: for a name that is no plain word.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+=,-]{0,79}", column):
        raise SteerError(f"name {column[:60]!r}: expected letters, digits, and + - _ = , between them; give --name")
    return column


def _object(data: bytes | None, what: str) -> dict[str, Any] | None:
    if data is None:
        return None
    try:
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise SteerError(f"{what} is damaged; delete the folder or choose another --out")
