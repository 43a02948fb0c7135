"""A call that stops wherever it asks for something, and goes on with the answer.

It runs in a coroutine with a stack of its own (greenlet) in the thread of its caller: a pipeline's loop is neither
changed nor copied, errors and interrupts come out where the call is gone on with, and dropping it unwinds it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from greenlet import error as GreenletError
from greenlet import getcurrent, greenlet


class Paused:
    """A function's call. :func:`ask` within it stops it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._greenlet = greenlet(function)
        self._grad = torch.is_grad_enabled()

    @property
    def over(self) -> bool:
        """Whether the call has returned or failed."""
        return bool(self._greenlet.dead)

    def resume(self, answer: Any = None) -> Any:
        """Go on until the call asks (returns the question) or is over (returns its result)."""
        return self._switched(self._greenlet.switch, *(() if not self._greenlet else (answer,)))

    def close(self) -> None:
        """End the call where it stands, running its ``finally`` blocks."""
        if self._greenlet:
            self._switched(self._greenlet.throw)

    def __del__(self) -> None:
        # unwinding it would leave its mode of gradients to the thread; another thread cannot unwind it
        with suppress(GreenletError):
            self.close()

    def _switched(self, switch: Callable[..., Any], *arguments: Any) -> Any:
        """Switch; both sides keep their own mode of gradients, which belongs to the thread."""
        outside = torch.is_grad_enabled()
        self._greenlet.parent = getcurrent()
        torch.set_grad_enabled(self._grad)
        try:
            return switch(*arguments)
        finally:
            self._grad = torch.is_grad_enabled()
            torch.set_grad_enabled(outside)


def ask(question: Any) -> Any:
    """Stop the paused call that this is within, and return the answer with which it goes on."""
    parent = getcurrent().parent
    assert parent is not None, "ask() is for calls within Paused"
    return parent.switch(question)
