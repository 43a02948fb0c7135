"""``steer live``: a page to steer at, and an API of images, over one model in memory."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import click

from steer import SteerError
from steer.plugin import (
    GroupedCommand,
    default_model,
    gathered,
    listening,
    log_option,
    one_line,
    option,
    quiet_libraries,
    request_of,
    sampling_options,
)

SERVER = "Server"
TOKEN_VARIABLE = "STEER_LIVE_TOKEN"
OWN = ("host", "port", "name", "token", "out", "queue")


@click.command(cls=GroupedCommand)
@option(
    "--host", default="127.0.0.1", show_default=True, group=SERVER, help="Address to listen at; 0.0.0.0 is every one."
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8190,
    show_default=True,
    group=SERVER,
    help="Port; 0 for a free one.",
)
@option(
    "--name", multiple=True, metavar="NAME", group=SERVER, help="Name by which others reach this machine; repeatable."
)
@option(
    "--token/--no-token",
    default=None,
    group=SERVER,
    help=f"Ask for a token; by default beyond this machine. {TOKEN_VARIABLE} sets it, else one is made.",
)
@option(
    "--out", type=click.Path(path_type=Path), default=Path("outputs/live"), show_default=True, metavar="FOLDER",
    group=SERVER, help="Folder of the jobs' folders.",
)  # fmt: skip
@option(
    "--queue", type=click.IntRange(1, 100_000), default=32, show_default=True, metavar="JOBS", group=SERVER,
    help="Jobs that may wait; more are refused.",
)  # fmt: skip
@sampling_options
@log_option
def live(host: str, port: int, name: tuple[str, ...], token: bool | None, out: Path, queue: int, **given: Any) -> None:
    """Serve a page to steer at, and OpenAI's images API, until Ctrl-C.

    The page shows every step's particles as they are denoised. The model stays in memory. The other options hold for
    requests that say nothing else, and only what they name may be a path or an address.
    """
    values = gathered({}, given)
    if "model" not in values:
        values["model"], source = default_model()
        click.echo(f"model: {one_line(values['model'])} ({source})", err=True)
    request = request_of(values)
    try:
        import uvicorn  # noqa: F401

        from steer_live.server import application, serve
    except ImportError:
        raise SteerError("steer live needs starlette and uvicorn: pip install 'steer-diffusion[serve]'") from None
    from steer_live.asked import Offer
    from steer_live.desk import Desk
    from steer_live.journal import Journal
    from steer_live.queue import Queue
    from steer_live.worker import Worker

    quiet_libraries()
    secret = _token(host, token)
    journal = Journal(out)
    with listening(host, port) as listener, journal.held():  # before the model is loaded, which takes long
        worker = Worker(request.sampler(), out)
        jobs = Queue(worker.run, journal, queue)
        desk = Desk(Offer(worker.sampler, values), jobs, out)
        app = application(desk, token=secret, names=name)
        waiting = jobs.start()
        address = f"http://{_shown(host)}:{listener.getsockname()[1]}/"
        click.echo(
            f"serving {one_line(values['model'])} at {address}{f'?token={secret}' if secret else ''}; Ctrl-C ends it"
        )
        if waiting:
            click.echo(f"going on with {waiting} job{'s' if waiting > 1 else ''} of an earlier server", err=True)
        serve(desk, app, listener)


def _token(host: str, wanted: bool | None) -> str:
    """Return the token that requests must carry; empty for none."""
    given = os.environ.get(TOKEN_VARIABLE, "")
    if wanted is None:
        wanted = bool(given) or not _is_local(host)
    return (given or secrets.token_urlsafe(24)) if wanted else ""


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    """Return the host of the address to open."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
