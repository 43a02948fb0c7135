"""Every hook there is.

``steer_register`` is called once, when plugins are loaded. All others are called on the methods that are
active in a run, in the order in which they were named. A hook that a plugin does not implement costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from steer.registry.registration import hookspec

if TYPE_CHECKING:
    from steer.sampling.run import Run
    from steer.sampling.state import State


@hookspec
def configure(run: Run) -> None:
    """Before anything is computed: set or suggest the run's fields (``run.set("eta", 1.0, by="fk")``)."""


@hookspec
def begin(state: State) -> None:
    """Noise and conditioning are there, nothing was predicted yet: check what is needed, or replace the noise."""


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
    """Every step, ``state.x`` at the next noise level and ``x0`` not yet known: observe."""


@hookspec
def finish(state: State) -> None:
    """The last step is done and ``state.x0`` is the final ``x``: weigh."""


@hookspec
def search(run: Run, sample: Callable[..., State]) -> State:
    """Own the outer loop: ``sample(start)`` draws one population; searches nest, the first named is outermost.

    ``run.start`` says which rows the search is to work on; ``sample()`` draws those, ``sample(start)`` others (other
    slots, other noise). Finished populations are put together by ``State.joined``.
    """
    raise NotImplementedError  # a specification; never called


@hookspec
def after_round(run: Run, done: int, total: int | None) -> None:
    """A search has done so many of its rounds (``None``: nobody knows of how many): observe."""


def chain(manager: pluggy.PluginManager, hook: str) -> Iterable[Callable[..., Any]]:
    """Return a hook's implementations as functions in the order in which the methods were named."""
    caller = getattr(manager.hook, hook)
    return [implementation.function for implementation in reversed(caller.get_hookimpls())]
