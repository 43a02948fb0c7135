"""A benchmark's stages, each of which resumes: render the prompts, score the images, report the figures.

The folder has one subfolder per column, which is an ordinary render with its scores beside it; a shard's has the shard
in its name. Further methods are further columns of the same folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.evaluate.bench.benchmark import Benchmark
from steer.evaluate.bench.folder import PLAIN, images_of, of_file, score_file, slug_of
from steer.evaluate.bench.prompts import digest_of
from steer.evaluate.score.files import FileError
from steer.evaluate.score.rows import ScoreFile
from steer.evaluate.score.score import score_files
from steer.models.device import pick_device
from steer.models.media import media_of
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.render.renderer import MakeEngine, Renderer
from steer.render.spec import Spec
from steer.render.watcher import Plan, Summary, Watcher
from steer.results.claims import check_others
from steer.results.storage import storage_at
from steer.rewards.by_name import OptionValues, check_judges, check_modalities, check_rewards, make_reward
from steer.sampling.request import SamplingRequest
from steer.settings.strict_json import json_text

ASKED = "bench.json"
"""What a folder is for."""

IMAGES = media_of("image")


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


def columns_of(name: str, request: SamplingRequest, values: Mapping[str, Any], *, plain: bool) -> list[Column]:
    """Return the column of a request, and before it that of the model without methods.

    Args:
        name: of the column; empty for the methods' names.
        request: as asked.
        values: content of its ``run.toml``.
        plain: whether to add the model without methods.

    Raises:
        SteerError: if methods would have the name of the model without them.
    """
    methods = [method if isinstance(method, str) else type(method).__name__ for method in request.methods]
    own = Column(name or "+".join(Path(method).stem for method in methods) or PLAIN, request, values)
    if methods and own.name == PLAIN:
        raise SteerError(f"name {PLAIN!r} is that of the model without methods; give another --name")
    if not methods or not plain:
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
        if plan.modality is not None and media_of(plan.modality) is not IMAGES:
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
                known = of_file(kept.done)
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
