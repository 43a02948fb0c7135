"""What the tokens of a text looked like on the way, for traces. An observer that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from torch import Tensor

from steer import State, hookimpl

FRAMES = 32
"""Steps that are kept, at most, spread evenly, the end besides."""
TOKENS = 200_000
"""Tokens that a population's trail holds, at most: of longer texts fewer steps are kept."""


class TokenTrail:
    """Records an event ``tokens`` a step, after the methods' hooks: particles' tokens, ``None`` for masked ones."""

    def __init__(self, pieces: Callable[[Tensor], list[Any]]) -> None:
        """Args: pieces: how tokens ``[N, L]`` read, one list per row."""
        self._pieces = pieces

    @hookimpl(wrapper=True)
    def after_predict(self, state: State) -> Generator[None, Any, Any]:
        """Keep the tokens that the step begins with."""
        result = yield
        if state.step in _spread(state):
            self._record(state)
        return result

    @hookimpl(wrapper=True)
    def finish(self, state: State) -> Generator[None, Any, Any]:
        """Keep the tokens of the end."""
        result = yield
        self._record(state)
        return result

    def _record(self, state: State) -> None:
        state.note("tokens", tokens=self._pieces(state.x))


def _spread(state: State) -> set[int]:
    """Return the steps to keep, the first among them."""
    frames = max(1, min(FRAMES, TOKENS // max(1, state.x.numel())))
    stride = -(-state.steps // frames)
    return set(range(0, state.steps, stride))
