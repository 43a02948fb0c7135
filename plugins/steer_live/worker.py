"""Running one job: the model in memory, and the writers of ``steer generate`` and ``steer render``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer import Prompt, Sampler
from steer.plugin import (
    LocalEngine,
    Plan,
    Renderer,
    SamplingRequest,
    Spec,
    Summary,
    build_page,
    from_row,
    generate,
    json_text,
    leaves,
    parse_expression,
    read_object,
    request_of,
    storage_at,
)
from steer_live.jobs import IMAGES, Job
from steer_live.observer import Observer, Stopped, Tell

PAGE_PREVIEWS = 8
"""Steps whose previews a render keeps for its gallery page."""


class Worker:
    """Runs jobs one after another, in one thread, with one model. Rewards of the last job stay in memory for the next.

    Attributes:
        sampler: the model.
    """

    def __init__(self, sampler: Sampler, folder: Path) -> None:
        """Args: sampler: the model; folder: in which every job has a folder, named by its id."""
        self.sampler, self._folder = sampler, folder
        self._kept = ""

    def run(self, job: Job, tell: Tell, stop: threading.Event) -> None:
        """Run a job; what is finished when it ends, by whatever, is in its folder and in ``job.files``.

        Raises:
            SteerError: for a mistake in what was asked.
            Stopped: if it was stopped.
        """
        request = replace(request_of(job.values), loaded=self.sampler)
        self._keep_rewards(request)
        prompts = [from_row(row, f"prompt {number}") for number, row in enumerate(job.rows, 1)]
        observer = Observer(tell, stop, job.previews)
        if job.kind == IMAGES:
            self._generate(job, prompts, request, observer)
        else:
            self._render(job, prompts, request, observer, tell)

    def place(self, job: Job) -> Path:
        """Return a job's folder."""
        return self._folder / job.id

    # ---- images --------------------------------------------------------------------------------------------

    def _generate(self, job: Job, prompts: Sequence[Prompt], request: SamplingRequest, observer: Observer) -> None:
        job.total, job.files = len(prompts), []
        place = self.place(job)
        try:
            # force: an earlier try of this job may have been killed halfway
            generate(prompts, request, str(place), _Watcher(observer), force=True)
        finally:
            if (place / "result.json").is_file():
                result = read_object(place / "result.json", "result")
                rows, job.evaluations = result["items"], _forwards(result["cost"])
                places = {prompt.id: number for number, prompt in enumerate(prompts)}
                job.files = _in_order(file for row in rows for file in files_of(row, places[row["id"]]))

    # ---- prompt files --------------------------------------------------------------------------------------

    def _render(
        self, job: Job, prompts: Sequence[Prompt], request: SamplingRequest, observer: Observer, tell: Tell
    ) -> None:
        job.total, job.files, job.lost = len(prompts), _journaled(self.place(job)), 0
        previews = PAGE_PREVIEWS if self.sampler.backbone.medium.pictured else 0
        renderer = Renderer(
            self.place(job),
            Spec(request, previews=previews),
            lambda spec: LocalEngine(spec, observers=[observer]),
            values={**job.values, "previews": previews},
            watcher=_RenderWatcher(job, tell),
        )
        try:
            renderer.render(prompts)
        except Stopped:
            build_page(storage_at(self.place(job)))
            raise
        finally:
            job.files = _journaled(self.place(job))

    # ---- rewards -------------------------------------------------------------------------------------------

    def _keep_rewards(self, request: SamplingRequest) -> None:
        """Let the last job's rewards go, unless this one has the same."""
        named = [*request.reward, *request.judge]
        owners = {term.name for text in named for term in leaves(parse_expression(str(text)))}
        options = {owner: dict(table) for owner, table in request.options.items() if owner in owners}
        wanted = json_text([sorted(map(str, named)), options], sort_keys=True)
        if wanted != self._kept:
            self.sampler.rewards, self._kept = {}, wanted


def files_of(row: Mapping[str, Any], place: int) -> list[dict[str, Any]]:
    """Return what clients see of the files of an item's row; the prompt's place gives each a key for good."""
    chosen = [particle for particle in row["particles"] if particle["chosen"]]
    return [
        {
            "key": f"{place}-{number}",
            "id": row["id"],
            "prompt": row["prompt"],
            "file": file,
            "seed": row["seed"],
            "slot": particle["slot"],
            "reward": particle["reward"],
            "judge": particle["judge"],
        }
        for number, (file, particle) in enumerate(zip(row["files"], chosen, strict=True))
    ]


def _forwards(cost: Mapping[str, Any]) -> int:
    """Return a cost's :attr:`Cost.forwards`."""
    return int(cost["nfe"] + cost["recomputed"] + 2 * cost["backwards"])


def _in_order(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(files, key=lambda file: tuple(map(int, file["key"].split("-"))))


def _journaled(place: Path) -> list[dict[str, Any]]:
    """Return the files of a render so far, in the prompts' order."""
    rows: dict[str, dict[str, Any]] = {}
    for line in storage_at(place).lines("journal.jsonl"):
        row = json.loads(line)
        rows[row["id"]] = row
    done = (row for row in rows.values() if row["status"] == "done")
    return _in_order(file for row in done for file in files_of(row, row["index"]))


class _Watcher:
    """Watches a generation."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @contextmanager
    def part(self, prompts: int, label: str) -> Iterator[Sequence[object]]:
        yield (self._observer,)

    def written(self) -> None:
        self._observer.check()

    def stopped(self, done: int, prompts: int, place: str) -> None:
        return


class _RenderWatcher:
    """Tells of a render's prompts as they are written."""

    def __init__(self, job: Job, tell: Tell) -> None:
        self._job, self._tell = job, tell

    def begin(self, plan: Plan, place: str) -> None:
        self._tell("progress", {"done": plan.done, "failed": plan.failed, "total": plan.tasks})
        self._before = plan

    def done(self, row: Mapping[str, Any], progress: Any) -> None:
        files = files_of(row, row["index"])
        self._job.files = [*self._job.files, *files]
        self._tell("files", {"files": files})
        self._say(progress)

    def failed(self, row: Mapping[str, Any], progress: Any) -> None:
        self._tell("lost", {"id": row["id"], "prompt": row["prompt"], "reason": row["reason"]})
        self._say(progress)

    def stopping(self) -> None:
        return

    def end(self, summary: Summary) -> None:
        self._job.lost, self._job.evaluations = summary.failed, round(summary.cost.forwards)

    def _say(self, progress: Any) -> None:
        before = self._before
        self._tell(
            "progress",
            {
                "done": before.done + progress.done,
                "failed": before.failed + progress.failed,
                "total": before.tasks,
                "seconds_left": progress.seconds_left,
            },
        )
