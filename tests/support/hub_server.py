"""A hub of its own on 127.0.0.1: the part of the protocol by which clients ask for metadata, bytes and listings."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from steer.models.downloads.hub import reachable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves, how it misbehaves, and what was asked of it.

    Attributes:
        files: ``"org/name"`` to path to content.
        cut: after how many bytes a connection breaks off; once for each entry, in turn.
        spoil: serve other bytes than those whose checksum is stated.
        refuse: the hub's code of an error and the status by which every request is answered.
        requests: method, path and the ``Range`` header of each request.
    """

    files: dict[str, dict[str, bytes]]
    cut: list[int] = field(default_factory=list)
    spoil: bool = False
    refuse: tuple[str, int] | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def ranges(self) -> list[str | None]:
        """Return the ``Range`` of each request for bytes."""
        return [header for method, path, header in self.requests if method == "GET" and "/resolve/" in path]


@contextmanager
def as_hub(server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Have this process take a server for the hub, and a folder for its cache, until the block ends."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    reachable.cache_clear()
    yield server
    reachable.cache_clear()


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends; ``hub.url`` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            hub.requests.append((self.command, self.path, self.headers.get("Range")))
            path = self.path.partition("?")[0]
            if hub.refuse is not None:
                code, status = hub.refuse
                self.start(status, 0, {"X-Error-Code": code, "X-Error-Message": code or "no"})
                return
            if path.startswith("/api/models/"):
                self.listing(path.removeprefix("/api/models/").partition("/revision/")[0])
                return
            repo, _, rest = path.removeprefix("/").partition("/resolve/")
            content = hub.files.get(repo, {}).get(rest.partition("/")[2])
            if content is None:
                code = "EntryNotFound" if repo in hub.files else "RepoNotFound"
                self.start(404, 0, {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": COMMIT})
                return
            etag = hashlib.sha256(content).hexdigest()
            facts = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
            sent, status = content, 200
            if hub.spoil:
                sent = bytes(255 - byte for byte in content)
            if body and self.headers.get("Range"):
                start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
                facts["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                sent, status = sent[start:], 206
            self.start(status, len(sent), facts)
            if not body:
                return
            if hub.cut:
                self.wfile.write(sent[: hub.cut.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(sent)

        def listing(self, repo: str) -> None:
            if repo not in hub.files:
                self.start(404, 0, {"X-Error-Code": "RepoNotFound"})
                return
            siblings = [{"rfilename": name, "size": len(data)} for name, data in hub.files[repo].items()]
            data = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
            self.start(200, len(data), {"Content-Type": "application/json"})
            self.wfile.write(data)

        def start(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
