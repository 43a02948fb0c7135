"""``steer serve-reward``: a reward of steer as a server for the reward ``http``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from steer import SteerError
from steer.plugin import listening, log_option, one_line

if TYPE_CHECKING:  # both import torch, for which help must not wait
    from steer.plugin import WeightedSum
    from steer_judges.protocol import Info


@click.command()
@click.argument("name", metavar="EXPR")
@click.option("-o", "option", multiple=True, metavar="PLUGIN.OPTION=VALUE", help="Plugin option; repeatable.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="Port; 0 for a free one.")
@click.option("--device", help="cpu, cuda, …; CUDA if there is one.")
@log_option
def serve_reward(name: str, option: tuple[str, ...], host: str, port: int, device: str | None) -> None:
    """Serve the reward EXPR, for example hps:2+clip:0.5, until Ctrl-C.

    Another steer uses it by --reward http -o http.url=ADDRESS. If the environment variable STEER_REWARD_KEY is set,
    requests must carry the same key.
    """
    from steer.plugin import (
        check_names,
        check_owners,
        make_reward,
        manager,
        parse_assignments,
        pick_device,
        quiet_libraries,
    )

    try:
        import uvicorn

        from steer_judges.server import application
    except ImportError:
        raise SteerError("serve-reward needs starlette and uvicorn: pip install 'steer-diffusion[serve]'") from None
    from steer_judges.protocol import KEY_VARIABLE

    options = parse_assignments(option)
    check_owners(options, [], [name])
    check_names([], [name], options, manager())
    quiet_libraries()
    with listening(host, port) as listener:  # before the weights are loaded, which takes long
        place = pick_device(device)
        made = make_reward([name], options, manager(), place)
        assert made is not None
        key = os.environ.get(KEY_VARIABLE, "")
        app = application(made, _info(made), place, key=key)
        address = f"http://{host}:{listener.getsockname()[1]}"
        click.echo(f"serving {one_line(name)} at {address}{' with a key' if key else ''}; Ctrl-C ends it")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[listener])


def _info(made: WeightedSum) -> Info:
    """Return what a server tells of a reward."""
    from steer_judges.protocol import Info

    parts = [part for _, _, part in made.terms]
    media = {modality for part in parts if (modality := getattr(part, "modality", None)) is not None}
    if len(media) > 1 or not media <= {"image", "text"}:
        raise SteerError(f"{made.name} scores {' and '.join(sorted(media))}s; a server serves images or texts")
    return Info(made.name, next(iter(media), None), any(getattr(part, "needs_prompt", True) for part in parts))
