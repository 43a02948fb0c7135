"""The hooks of a run, and the making of a run with its methods.

The hooks are called on the methods that are active in a run, in the order in which they were named. A hook that a
method does not implement costs nothing.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pluggy

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.prompts.prompt import Prompt
from steer.registry.registration import PROJECT, check_hooks, hookspec, register
from steer.sampling.method import Method
from steer.sampling.run import Run
from steer.sampling.state import State


@hookspec
def configure(run: Run) -> None:
    """Before anything is computed: set or suggest the run's fields (``run.set("eta", 1.0, by="fk")``)."""


@hookspec
def begin(state: State) -> None:
    """Noise and conditioning are known, nothing is predicted yet: check requirements, or replace the noise."""


@hookspec
def before_predict(state: State) -> None:
    """Every step, before the denoiser runs: may change ``state.x``."""


@hookspec
def after_predict(state: State) -> None:
    """Every step, ``state.x0`` belongs to ``state.x``: resample, branch, prune, or change ``state.prediction``.

    Resampling happens here, before fresh noise is drawn, so that copies of a particle part in the very next
    transition.
    """


@hookspec
def after_step(state: State) -> None:
    """Every step, with ``state.x`` at the next noise level and ``x0`` not yet known: observe."""


@hookspec
def finish(state: State) -> None:
    """The last step is done and ``state.x0`` is the final ``x``: weigh."""


@hookspec
def search(run: Run, sample: Callable[..., State]) -> State:
    """Own the outer loop: ``sample(start)`` draws one population; searches nest, the first named is outermost.

    ``run.start`` holds the rows of the search. ``sample()`` draws those, ``sample(start)`` draws other slots or other
    noise. ``State.joined`` joins finished populations.
    """
    raise NotImplementedError  # a specification; never called


@hookspec
def after_round(run: Run, done: int, total: int | None) -> None:
    """A search finished ``done`` of ``total`` rounds (``None`` if the total is unknown): observe."""


def hook_manager(methods: Sequence[Method], observers: Iterable[object] = ()) -> pluggy.PluginManager:
    """Return a manager of its own for a run.

    Args:
        methods: outermost first.
        observers: objects with hook wrappers that only watch.

    Raises:
        SteerError: for a method that is named twice, or a function that is not a hook.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(sys.modules[__name__])
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise SteerError(f"method {name!r} is named twice; give it once")
    for method in reversed(methods):  # pluggy calls the last registered first
        check_hooks(method, method.name)
        register(manager, method, method.name)
    for observer in observers:
        register(manager, observer, type(observer).__name__)
    return manager


def make_run(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    *,
    methods: Sequence[Method] = (),
    observers: Iterable[object] = (),
    **arguments: Any,
) -> Run:
    """Return a run with a set of methods, outermost first; takes the further arguments of :class:`Run`."""
    return Run(backbone, prompts, hook_manager(methods, observers), **arguments)


def methods_of(run: Run) -> list[Method]:
    """Return a run's methods, outermost first."""
    return [plugin for _, plugin in reversed(run.hooks.list_name_plugin()) if isinstance(plugin, Method)]


def outside(run: Run, method: Method) -> list[Method]:
    """Return a run's methods that were named before one of them."""
    methods = methods_of(run)
    return methods[: methods.index(method)]


def within(run: Run, method: Method) -> list[Method]:
    """Return a run's methods that were named after one of them."""
    methods = methods_of(run)
    return methods[methods.index(method) + 1 :]
