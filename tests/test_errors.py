"""What a failure of the network means and what helps: one table, whatever client met it."""

from __future__ import annotations

import errno
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.hub_server import Hub, as_hub, serve

from steer import SteerError, read_prompts
from steer.errors import cause_of, package_missing
from steer.models.downloads import weights
from steer.models.load import load_model
from steer.registry.declarations import Repository, Weights
from steer.registry.plugins import manager


@pytest.fixture(scope="module")
def answers() -> Iterator[str]:
    """A server that answers ``/CODE/…`` with that status."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            code = int(self.path.split("/")[1])
            body = b'{"prompt": "a red circle"}\n' if code == 200 else b""
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def refused() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


STATUSES = {
    401: "it asks for a login",
    403: "it denies access",
    404: "there is nothing at that address",
    410: "what was there is gone",
    429: "too many requests",
    500: "the server has a fault",
    503: "the server has a fault",
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_servers_answer_in_every_place(answers, status, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    url = f"{answers}/{status}/prompts.jsonl?download=true&token=secret"
    with pytest.raises(SteerError) as caught:
        read_prompts(url)
    assert STATUSES[status] in str(caught.value) and "secret" not in str(caught.value)
    with pytest.raises(SteerError, match=STATUSES[status]):
        weights.fetch(Weights("me", "w.pt", url=f"{answers}/{status}/w.pt"))


def test_a_url_with_a_query_is_read(answers) -> None:
    assert [str(prompt) for prompt in read_prompts(f"{answers}/200/prompts.jsonl?download=true")] == ["a red circle"]


def test_a_refused_connection_is_no_missing_file() -> None:
    with pytest.raises(SteerError) as caught:
        read_prompts(f"{refused()}/prompts.jsonl")
    assert "no server answers at that address" in str(caught.value) and "does not exist" not in str(caught.value)
    with pytest.raises(SteerError, match="no server answers at that address"):
        weights.fetch(Weights("me", "w.pt", url=f"{refused()}/w.pt"))


HUB = {
    ("GatedRepo", 403): "it is gated: accept its terms at http.*/org/model and log in with `hf auth login`",
    ("RepoNotFound", 404): "there is no such repository, or it is private",
    ("RevisionNotFound", 404): "the repository has no such revision",
    ("EntryNotFound", 404): "the repository has no such file|expected a repository with model_index.json",
    ("", 401): "there is no such repository, or it is private|it asks for a login",
    ("", 429): "too many requests",
    ("", 502): "the server has a fault",
}


@pytest.mark.parametrize("answer", HUB, ids=str)
def test_what_the_hub_says(answer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serve(Hub({}, refuse=answer)) as server, as_hub(server, tmp_path, monkeypatch):
        for ask in (
            lambda: weights.fetch(Weights("org/model", "w.pt")),
            lambda: weights.fetch(Repository("org/model")),
            lambda: load_model("org/model", manager(), device="cpu"),
        ):
            with pytest.raises(SteerError, match=HUB[answer]) as caught:
                ask()
            assert "\n" not in str(caught.value)


def wrapped(inner: BaseException, outer: BaseException) -> BaseException:
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (wrapped(ConnectionRefusedError(errno.ECONNREFUSED, "no"), OSError("pool")), "no server answers"),
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "name is not known"),
        (wrapped(TimeoutError("timed out"), RuntimeError("x")), "did not answer in time"),
        (OSError(errno.ENOSPC, "No space left"), "the disk is full"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "the connection broke off"),
        (ValueError("something else"), "ValueError: something else"),
    ],
    ids=repr,
)
def test_the_table(error, message) -> None:
    assert message in cause_of(error)


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ImportError("\nT5Tokenizer requires the SentencePiece library but it was not found"), "sentencepiece"),
        (
            ImportError("X requires torchsde. You can install it with pip: `pip install torchsde`"),
            "torchsde",
        ),
        (ModuleNotFoundError("No module named 'google.protobuf'", name="google.protobuf"), "protobuf"),
        (
            wrapped(ModuleNotFoundError("No module named 'PIL'", name="PIL"), OSError()),
            "pillow",
        ),
        (OSError("pip install nothing"), None),
    ],
    ids=repr,
)
def test_the_package_that_is_missing(error, package) -> None:
    assert package_missing(error) == package
