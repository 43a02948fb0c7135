"""``Guard``: who may ask. Pages of other sites may not, and beyond this machine only who has the token."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steer_live.answers import error

OPEN = ("/files/",)
"""Paths that need no token: an id in them cannot be guessed, and addresses of images are passed on to others."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
YEAR = 365 * 24 * 3600


class Guard:
    """Stands before an application; see :meth:`__call__`."""

    def __init__(self, app: ASGIApp, *, token: str = "", names: Collection[str] = ()) -> None:
        """Args: token: that requests must carry, none if empty; names: of this machine that requests may use."""
        self._app, self._token = app, token
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it.

        A name in ``Host`` that is not ours means that a site has its name point here (DNS rebinding). An ``Origin``
        other than ours is a page of another site. A token comes as ``Authorization: Bearer``, in our cookie, or once
        in the address, from which it moves into the cookie.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._refusal(scope, Headers(scope=scope))
        if answer is not None:
            await answer(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name.lower() for name, _ in message["headers"]}
                more = (
                    {**HEADERS}
                    if scope["path"].startswith("/gallery/")
                    else {**HEADERS, "Content-Security-Policy": POLICY}
                )
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in more.items()
                    if name.lower().encode() not in have
                ]
            await send(message)

        await self._app(scope, receive, sent)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return error(
                f"requests to the name {_name(host)[:80]!r} are refused; use an address, or start the server with "
                "--name",
                403,
                code="host_refused",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return error("a page of another site may not ask here", 403, code="origin_refused")
        if not self._token or scope["path"].startswith(OPEN):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        if given and scope["method"] == "GET" and self._is_token(given):
            return self._with_cookie(scope)
        if self._is_token(headers.get("authorization", "").removeprefix("Bearer ")):
            return None
        if self._is_token(self._cookie(scope, headers)):
            return None
        if scope["path"] == "/":
            return PlainTextResponse("Open the address that steer live printed: it has the token.\n", 401)
        return error("a token is needed, as in Authorization: Bearer TOKEN", 401, code="invalid_api_key")

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True  # a page that came by an address is no other site's

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token.encode())

    def _with_cookie(self, scope: Scope) -> Response:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        query.pop("token")
        rest = f"?{urlencode(query, doseq=True)}" if query else ""
        answer = RedirectResponse(f"/{rest}", 303)
        answer.set_cookie(_cookie_name(scope), self._token, max_age=YEAR, httponly=True, samesite="strict")
        return answer

    @staticmethod
    def _cookie(scope: Scope, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(_cookie_name(scope))
        except CookieError:
            return ""
        return "" if found is None else found.value


def _name(host: str) -> str:
    """Return the name in ``Host``, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie_name(scope: Scope) -> str:
    """Return a name for each port: cookies do not tell ports apart."""
    server = scope.get("server") or ("", 0)
    return f"steer-live-{server[1]}"
