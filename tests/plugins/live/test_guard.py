"""Who may ask: hosts, origins and tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from steer_live.guard import Guard

TOKEN = "a secret"


def asked(path: str = "/", method: str = "GET", *, token: str = "", **headers: str) -> tuple[int, dict[str, str]]:
    """Return the answer's status and headers."""
    name, _, query = path.partition("?")
    given = {"host": "127.0.0.1:8190", **headers}
    scope = {
        "type": "http", "method": method, "path": name, "query_string": query.encode(), "server": ("127.0.0.1", 8190),
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }  # fmt: skip
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    guard = Guard(PlainTextResponse("let in"), token=token, names=["Farm.example"])
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], {key.decode(): value.decode() for key, value in sent[0]["headers"]}


@pytest.mark.parametrize("host", ["127.0.0.1:8190", "localhost:8190", "[::1]:8190", "10.0.0.7", "farm.example"])
def test_addresses_and_names_of_this_machine_are_let_in(host: str) -> None:
    assert asked(host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8190", "127.0.0.1.evil.example", "", "[::1", "a:b:c"])
def test_a_name_that_was_pointed_here_is_refused(host: str) -> None:
    assert asked(host=host)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost:8190"])
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    assert asked(method="POST", origin=origin)[0] == 403
    assert asked(method="POST", origin="http://127.0.0.1:8190")[0] == 200


def test_without_a_token_nothing_is_told() -> None:
    for path in ("/", "/api/jobs", "/v1/models", "/gallery/", "/static/live.js", "/?token=wrong", "/api/jobs?token="):
        assert asked(path, token=TOKEN)[0] == 401
    assert asked(token=TOKEN, authorization="Bearer wrong")[0] == 401
    assert asked(token=TOKEN, cookie="steer-live-8190=wrong")[0] == 401
    assert asked(token=TOKEN, cookie="steer-live-1=a secret; =;;\x01")[0] == 401
    assert asked("/?token=a%20secret", "POST", token=TOKEN)[0] == 401  # it would stand in logs


def test_a_token_comes_as_a_header_or_moves_from_the_address_into_a_cookie() -> None:
    assert asked(token=TOKEN, authorization=f"Bearer {TOKEN}")[0] == 200
    status, headers = asked("/?token=a+secret", token=TOKEN)
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=strict" in headers["set-cookie"]
    assert asked(token=TOKEN, cookie=headers["set-cookie"].partition(";")[0])[0] == 200


def test_images_need_no_token_for_their_addresses_cannot_be_guessed() -> None:
    assert asked("/files/20260101-000000-0123456789abcdef/0", token=TOKEN)[0] == 200


def test_answers_say_what_browsers_may_do() -> None:
    headers = asked()[1]
    assert "script-src 'self';" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
