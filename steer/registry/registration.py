"""Registering plugins: the marker ``hookimpl``, the hook ``steer_register``, and the check of hook names."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pluggy

from steer.errors import SteerError, message_of
from steer.registry.registry import Registry

PROJECT = "steer"


hookspec = pluggy.HookspecMarker(PROJECT)


hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def steer_register(registry: Registry) -> None:
    """Register what the plugin provides: rewards, methods, models, backbones, commands. Import nothing heavy here."""


RUN_HOOKS: tuple[str, ...] = (
    "configure",
    "begin",
    "before_predict",
    "after_predict",
    "after_step",
    "finish",
    "search",
    "after_round",
)
"""Names of the hooks that a method may implement."""


def check_hooks(plugin: object, name: str) -> None:
    """Raise if ``plugin`` has a function named like a hook that is not marked ``@steer.hookimpl``."""
    for hook in ("steer_register", *RUN_HOOKS):
        function = inspect.getattr_static(plugin, hook, None)
        if function is None and not inspect.ismodule(plugin):
            function = getattr(type(plugin), hook, None)
        if inspect.isfunction(function) and not hasattr(function, f"{PROJECT}_impl"):
            raise SteerError(f"plugin {name!r}: {hook}() is named like a hook but not marked; add @steer.hookimpl")


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Register on a pluggy manager; an unknown hook or a wrong signature is an error that names the plugin."""
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise SteerError(f"plugin {name!r}: {message_of(error, 400)}") from None


def implementations(manager: pluggy.PluginManager, hook: str) -> Sequence[Callable[..., Any]]:
    """Return a hook's implementations as functions, in the order in which they are called."""
    caller = getattr(manager.hook, hook)
    return [implementation.function for implementation in reversed(caller.get_hookimpls())]
