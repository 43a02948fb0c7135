"""The tokens of a text at intermediate steps, for traces. An observer that changes nothing."""

from collections.abc import Callable, Generator
from typing import Any

from torch import Tensor

from steer import State, hookimpl

FRAMES = 32
"""Most steps to keep, evenly spaced; the end is always kept as well."""
TOKENS = 200_000
"""Most tokens in a population's trail; longer texts keep fewer steps."""


class TokenTrail:
    """Records an event ``tokens`` per kept step, after the methods' hooks; masked tokens are ``None``."""

    def __init__(self, pieces: Callable[[Tensor], list[Any]]) -> None:
        """Args: pieces: from tokens ``[N, L]`` to their texts, one list per row."""
        self._pieces = pieces

    @hookimpl(wrapper=True)
    def after_predict(self, state: State) -> Generator[None, Any, Any]:
        """Keep the tokens at the beginning of the step."""
        result = yield
        if state.step in _spread(state):
            self._record(state)
        return result

    @hookimpl(wrapper=True)
    def finish(self, state: State) -> Generator[None, Any, Any]:
        """Keep the final tokens."""
        result = yield
        self._record(state)
        return result

    def _record(self, state: State) -> None:
        state.note("tokens", tokens=self._pieces(state.x))


def _spread(state: State) -> set[int]:
    """Return the steps to keep, including the first."""
    frames = max(1, min(FRAMES, TOKENS // max(1, state.x.numel())))
    stride = -(-state.steps // frames)
    return set(range(0, state.steps, stride))
