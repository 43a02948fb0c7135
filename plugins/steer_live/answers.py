"""Errors as answers, in the form that OpenAI's clients read."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from steer import SteerError
from steer.plugin import StorageError, one_line
from steer_live.asked import RefusedError
from steer_live.queue import FullError

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
RETRY_SECONDS = 2
"""After which a client may try again when the queue was full."""
LAST = {"x-should-retry": "false"}
"""Keeps OpenAI's clients from asking again by themselves: what they asked for was done, or stopped, or goes on."""


def error(
    message: str, status: int, *, code: str | None = None, param: str | None = None,
    headers: Mapping[str, str] | None = None, **more: Any,
) -> JSONResponse:  # fmt: skip
    """Return an error as an answer."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {"message": one_line(message), "type": kind, "param": param, "code": code, **more}
    return JSONResponse({"error": body}, status, headers)


def answering(handler: Handler) -> Handler:
    """Return a handler whose errors are answers; a fault of the program is logged, and its text stays here."""

    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedError as refused:
            return error(str(refused), refused.status, code=refused.code, param=refused.param)
        except FullError as full:
            answered = error(str(full), 429, code="queue_full", queue=full.waiting)
            answered.headers["Retry-After"] = str(RETRY_SECONDS)
            return answered
        except StorageError as full:
            return error(str(full), 507)
        except SteerError as mistake:
            return error(str(mistake), 400)
        except Exception:
            log.error("%s %s", request.method, request.url.path, exc_info=True)
            return error("a fault of the server, see its log", 500)

    return answer
