"""The options that say where to render, and the engine made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steer.cli.parts.option_groups import Decorator, option, options
from steer.errors import SteerError

if TYPE_CHECKING:
    from steer.render.renderer import MakeEngine

ENGINES = ("local", "ray")
MACHINES = "Machines"

engine_options: Decorator = options(
    option("--engine", metavar="local|ray", group=MACHINES, help="Where to render; ray is for many GPUs and machines."),
    option("--address", metavar="HOST:PORT", group=MACHINES, help="Ray cluster; without it, Ray runs on this machine."),
    option("--workers", type=int, group=MACHINES, help="Ray workers; by default one per GPU, or two without GPUs."),
)
"""Where to render."""


def engine_of(values: Mapping[str, Any], observer: object) -> MakeEngine:
    """Return what makes the engine that options ask for.

    Raises:
        SteerError: for an unknown engine, or an option of another.
    """
    name = values.get("engine", "local")
    if name not in ENGINES:
        raise SteerError(f"engine {name!r}: expected {' or '.join(ENGINES)}")
    if name == "ray":
        from steer.render.ray_engine import RayEngine

        return lambda spec: RayEngine(spec, address=values.get("address"), workers=values.get("workers"))
    for option_name in ("address", "workers"):
        if values.get(option_name) is not None:
            raise SteerError(f"--{option_name} is for --engine ray; add that, or drop --{option_name}")
    from steer.render.local import LocalEngine

    return lambda spec: LocalEngine(spec, observers=[observer])
