"""The folder of a render: samples, journal, metadata, and the prompts, from which it resumes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from steer.models.media import media_of
from steer.prompts.prompt import Prompt
from steer.prompts.rows import as_row
from steer.render.journal import DETAILS, JOURNAL, Journal, digest_of, place_of
from steer.render.layout import Layout
from steer.render.outcomes import Failed, Rendered
from steer.render.runfile import PROMPTS, read_stored_prompts
from steer.render.spec import Task
from steer.results.names import METADATA
from steer.results.rows import metadata_rows
from steer.results.storage import Storage
from steer.settings.strict_json import json_text


class RenderFolder:
    """Writes outcomes as they come. An image is written before the journal names it.

    Attributes:
        storage: the folder's storage.
        layout: the images' file names.
        journal: the finished and failed tasks.
    """

    def __init__(self, storage: Storage, layout: Layout) -> None:
        self.storage, self.layout = storage, layout
        self.journal = Journal(storage)
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._digests: dict[str, str] = {}
        self._old: dict[str, tuple[str, ...]] = {}
        self._taken: set[str] = set()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Lock the folder within the block; the logs are durable after it, even after an error."""
        with self.storage.lock():
            for log in (JOURNAL, DETAILS):
                self.storage.check_log(log)
            try:
                yield
            finally:
                self.storage.close()

    def missing(self, tasks: Iterable[Task], *, retry_failed: bool = False) -> tuple[list[Task], int, int]:
        """Return the tasks that are not done, and how many are done and failed.

        A task is done if the journal has it with these words and settings, and its files exist. A failed task is not
        tried again unless ``retry_failed``.
        """
        self._taken.clear()
        entries = self.journal.entries()
        sizes = {file: size for folder in self.layout.folders for file, size in self.storage.sizes(folder).items()}
        missing, done, failed = [], 0, 0
        for task in tasks:
            identity = task.prompt.id
            digest = digest_of(task, placed=self.layout.placed)
            entry = entries.get(identity)
            if entry is not None and entry.digest == digest:
                if entry.done and all(sizes.get(file) for file in entry.files):
                    self._take(entry.files)
                    done += 1
                    continue
                if not entry.done and not retry_failed:
                    failed += 1
                    continue
            self._tasks[identity], self._digests[identity] = task, digest
            if entry is not None:
                self._old[identity] = tuple(file for file in entry.files if file in sizes)  # and none elsewhere
            missing.append(task)
        return missing, done, failed

    def store(self, outcome: Rendered) -> dict[str, Any]:
        """Write a finished task: its images, then its details and its line in the journal, which is returned.

        Raises:
            StorageError: if it cannot be written; the journal does not name the task then.
        """
        task = self._tasks[outcome.id]
        files = self.layout.samples(task, list(outcome.files), media_of(outcome.modality))
        self._take(files)
        for name, data in (*zip(files, outcome.files.values(), strict=True), *self.layout.extras(task).items()):
            self.storage.write(name, data)
        row = {**outcome.row, **self._facts(task), "status": "done", "files": files}
        detail = f"{json_text(outcome.detail)}\n".encode()
        with self._lock:
            self.storage.append(DETAILS, detail)
            self.journal.write(row)
        with self._lock:  # no other thread may take a name between the check and the removal
            for name in set(self._old.pop(outcome.id, ())) - set(files) - self._taken:
                self.storage.remove(name)
        self._forget(outcome.id)
        return row

    def fail(self, outcome: Failed) -> dict[str, Any]:
        """Record why a task cannot be done; return its line in the journal."""
        row = {**self._facts(self._tasks[outcome.id]), "status": "failed", "reason": outcome.reason}
        with self._lock:
            self.journal.write(row)
        self._forget(outcome.id)
        return row

    def all_prompts(self, prompts: Iterable[Prompt]) -> list[Prompt]:
        """Return the prompts of earlier calls and these; a changed row replaces the earlier one."""
        known = {prompt.id: prompt for prompt in read_stored_prompts(self.storage)}
        return list({**known, **{prompt.id: prompt for prompt in prompts}}.values())

    def remember(self, prompts: Iterable[Prompt]) -> None:
        """Keep the prompts, so that the render can resume without their files."""
        data = "".join(f"{json_text(as_row(prompt))}\n" for prompt in prompts).encode()
        if data != self.storage.read(PROMPTS):
            self.storage.write(PROMPTS, data)

    def finish(self) -> None:
        """Write ``metadata.jsonl``, one row per image, in the form that Hugging Face's imagefolder reads."""
        self.storage.sync()
        images = [
            (*place_of(row), number, json_text(image, readable=True))
            for row in self.journal.rows()
            if row["status"] == "done"
            for number, image in enumerate(metadata_rows(row))
        ]
        self.storage.write(METADATA, "".join(f"{line}\n" for *_, line in sorted(images)).encode())

    def _facts(self, task: Task) -> dict[str, Any]:
        prompt = task.prompt
        facts = {"id": prompt.id, "digest": self._digests[prompt.id], "prompt": str(prompt)}
        own = {**prompt.settings, **({"options": prompt.options} if prompt.options else {})}
        return {**facts, "category": prompt.category, "index": task.index, "replicate": task.replicate, "own": own}

    def _take(self, files: Iterable[str]) -> None:
        # numbered by place, a task's old files may be another's new ones
        if self.layout.placed:
            with self._lock:
                self._taken.update(files)

    def _forget(self, identity: str) -> None:
        # memory does not grow with the number of finished tasks
        del self._tasks[identity], self._digests[identity]
