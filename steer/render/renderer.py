"""``Renderer``: finds the missing prompts of a folder and has an engine render them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.models.media import Medium, media_of
from steer.prompts.prompt import Prompt
from steer.render.engine import Engine
from steer.render.folder import RenderFolder
from steer.render.layout import Layout, check_names
from steer.render.page import build_page
from steer.render.refresher import Refresher
from steer.render.render_pass import RenderPass
from steer.render.runfile import KEPT, check_ours, check_same, format_of, read_run, write_run
from steer.render.spec import Spec, tasks_of
from steer.render.watcher import Plan, Summary, Watcher
from steer.results.storage import storage_at

MakeEngine = Callable[[Spec], Engine]


class Renderer:
    """Renders prompts into a folder; run again, it renders exactly the missing ones."""

    def __init__(
        self,
        place: str | Path,
        spec: Spec,
        make_engine: MakeEngine,
        *,
        layout: str = "images",
        values: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        watcher: Watcher | None = None,
    ) -> None:
        """Check that the folder can be written to and holds nothing else.

        Args:
            place: a path or an fsspec URL.
            spec: everything that decides the images.
            make_engine: makes the engine; called after all other checks, because it takes long.
            layout: ``"images"`` or ``"geneval"``.
            values: content of ``run.toml``; a render resumes only with the same values.
            retry_failed: whether prompts that failed before are tried again.
            watcher: sees the progress.

        Raises:
            SteerError: if it cannot be written to, holds a render with other settings, or holds other files that a
                render would overwrite.
        """
        self._folder = RenderFolder(storage_at(place), Layout(layout))
        self._values = {**(values or {}), "layout": layout, "out": self._folder.storage.name}
        self._make_engine, self._retry, self._watcher = make_engine, retry_failed, watcher
        self._folder.storage.check()
        stored = read_run(self._folder.storage)
        if stored:
            for key in KEPT:
                if self._values.get(key) is None and stored.get(key) is not None:
                    self._values[key] = stored[key]
            check_same(stored, self._values, self._folder.storage.name)
        else:
            check_ours(self._folder.storage)
        self._begun = bool(stored)
        self._spec = replace(_with_kept(spec, self._values), run_format=format_of(stored))

    def plan(self, prompts: Iterable[Prompt]) -> Plan:
        """Return the plan of :meth:`render`; loads the model and writes nothing."""
        with ExitStack() as stack:
            return self._plan(stack, self._folder.all_prompts(prompts))[0]

    def render(self, prompts: Iterable[Prompt]) -> Summary:
        """Render the missing prompts.

        Raises:
            SteerError: for mistakes in the settings, before anything is computed; and if the folder cannot be written
                to any more, or all prompts failed.
        """
        storage = self._folder.storage
        with ExitStack() as stack:
            if self._begun:  # another render in this folder is found before the model is loaded
                stack.enter_context(self._folder.open())
            rows = self._folder.all_prompts(prompts)
            plan, engine = self._plan(stack, rows)
            if not self._begun:
                stack.enter_context(self._folder.open())
                if read_run(storage):
                    raise storage.in_use("a render that began at the same time")
                check_ours(storage)
            if engine is not None:
                values = {**self._values, "dtype": engine.dtype, "chunk": self._chunk(plan)}
                write_run(storage, values, self._spec.run_format)
            self._folder.remember(rows)
            if self._watcher:
                self._watcher.begin(plan, storage.name)
            page = Refresher(lambda: build_page(storage))
            summary = RenderPass(self._folder, plan, self._watcher, page).run(engine)
            self._folder.finish()
            build_page(storage)
            if self._watcher:
                self._watcher.end(summary)
        return summary

    def _plan(self, stack: ExitStack, rows: Sequence[Prompt]) -> tuple[Plan, Engine | None]:
        """Find the missing prompts; make an engine that plans them, if there are any."""
        tasks = tasks_of(enumerate(rows), seed=self._spec.request.seed, replicates=self._spec.replicates)
        check_names(tasks)
        missing, done, failed = self._folder.missing(tasks, retry_failed=self._retry)
        free = self._folder.storage.free_bytes()
        if not missing:
            return Plan(len(tasks), done, failed, [], free, searching=False), None
        engine = stack.enter_context(closing(self._make_engine(self._spec)))
        groups = engine.plan([task.prompt for task in missing])
        plan = Plan(len(tasks), done, failed, groups, free, engine.searching)
        self._check_pictured(media_of(groups[0].modality))
        return plan, engine

    def _chunk(self, plan: Plan) -> int | None:
        """Return the chunk size to resume with: the given or kept one, else that of all groups when it began."""
        given = self._values.get("chunk")
        if given is not None or self._begun:
            return given
        sizes = {group.settings["chunk"] for group in plan.groups}
        return sizes.pop() if len(sizes) == 1 else None

    def _check_pictured(self, medium: Medium) -> None:
        """Raise for options that only pictures have, if the model makes none."""
        asked = {"layout geneval": self._folder.layout.kind == "geneval", "previews": self._spec.previews}
        for name in asked:
            if asked[name] and not medium.pictured:
                raise SteerError(f"{name}: for images, and this model makes {medium.plural}; leave it out")


def _with_kept(spec: Spec, values: Mapping[str, Any]) -> Spec:
    """Return the spec with the values of an earlier session."""
    request = spec.request
    if values.get("chunk") is not None:
        request = request.having(chunk=values["chunk"])
    request = replace(request, dtype=values.get("dtype") or request.dtype)
    return replace(spec, request=request, previews=values.get("previews") or spec.previews)
