"""The application, and the server that runs it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from steer_live.answers import error
from steer_live.desk import Desk
from steer_live.guard import Guard
from steer_live.images import ImagesAPI
from steer_live.page import PageRoutes

MOST_CONNECTIONS = 512


def application(desk: Desk, *, token: str = "", names: Collection[str] = ()) -> ASGIApp:
    """Return the application of a desk; see :class:`Guard`."""
    routes = [*ImagesAPI(desk).routes(), *PageRoutes(desk).routes()]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: _answer}), token=token, names=names)


async def _answer(request: Request, exception: Exception) -> Response:
    assert isinstance(exception, HTTPException)
    return error(f"{request.method} {request.url.path}: {exception.detail}", exception.status_code)


class Server(uvicorn.Server):
    """Ends so that the running job stops after its step and stays in the queue, and every request is answered."""

    def __init__(self, desk: Desk, app: ASGIApp) -> None:
        """Args: desk: its queue runs already; app: of the desk."""
        self._desk = desk
        super().__init__(
            uvicorn.Config(
                app, log_level="warning", lifespan="off", limit_concurrency=MOST_CONNECTIONS, server_header=False
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the queue first: requests that wait for it hold their connections."""
        self._desk.end()
        await super().shutdown(sockets)
        if not self.force_exit:
            await asyncio.to_thread(self._desk.queue.close)


def serve(desk: Desk, app: ASGIApp, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    Server(desk, app).run(sockets=[listener])
