"""``steer live`` in this process: its queue, its page and its API, at a free port."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steer import Sampler
from steer_live.asked import Offer
from steer_live.desk import Desk
from steer_live.journal import Journal
from steer_live.queue import Queue
from steer_live.server import Server, application
from steer_live.worker import Worker

SECONDS = 120
"""After which a test gives up."""


class Live:
    """A server, seen from a test."""

    def __init__(self, folder: Path, port: int, queue: Queue) -> None:
        self.folder, self.port, self.queue = folder, port, queue
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, data: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request, with a body if there are data, and return the answer's status and JSON."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, {**kind, **headers})
        try:
            with _OPENER.open(request, timeout=SECONDS) as answer:
                return answer.status, _read(answer)
        except urllib.error.HTTPError as error:
            return error.code, _read(error)

    def events(self, job: str) -> Iterator[tuple[str, Any]]:
        """Yield the events of a job as they come, until it ends."""
        with _OPENER.open(f"{self.url}/api/jobs/{job}/events", timeout=SECONDS) as stream:
            kind = ""
            for line in stream:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)

    def ended(self, job: str) -> dict[str, Any]:
        """Wait for a job to end and return it with all its files."""
        assert [kind for kind, _ in self.events(job)][-1] == "end"
        found: dict[str, Any] = self.ask(f"/api/jobs/{job}")[1]
        return found


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _read(answer: Any) -> Any:
    data = answer.read()
    return json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data


@contextmanager
def live_server(
    sampler: Sampler, folder: Path, *, most: int = 32, token: str = "", values: Mapping[str, Any] | None = None
) -> Iterator[Live]:
    """Serve a model until the block ends.

    Args:
        sampler: the model.
        folder: of the jobs' folders.
        most: jobs that may wait.
        token: that requests must carry.
        values: of the command line.
    """
    journal = Journal(folder)
    given = {"model": sampler.model.name, "options": {}, **(values or {})}
    with journal.held(), socket.create_server(("127.0.0.1", 0)) as listener:
        queue = Queue(Worker(sampler, folder).run, journal, most)
        desk = Desk(Offer(sampler, given), queue, folder)
        server = Server(desk, application(desk, token=token))
        queue.start()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until = time.monotonic() + SECONDS
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            yield Live(folder, listener.getsockname()[1], queue)
        finally:
            server.should_exit = True
            thread.join()
