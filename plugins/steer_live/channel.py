"""``Channel``: events from the thread that samples to any number of readers, in order, each from the beginning."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from steer.plugin import json_text

MOST_BYTES = 16 * 1024**2
"""Of the events that a channel keeps; the oldest go first."""
QUIET_SECONDS = 15.0
"""After which a reader is told that the connection still stands."""


class Channel:
    """The events of one job, or of all jobs together. Threads write; coroutines of any loop read."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        """Args: most: bytes to keep."""
        self._lock = threading.Lock()
        self._events: list[bytes] = []
        self._first = 0
        self._bytes, self._most = 0, most
        self._closed = False
        self._name = secrets.token_hex(4)
        self._bells: set[Callable[[], None]] = set()

    def put(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event; after :meth:`close` it is dropped."""
        text = json_text(data, compact=True)
        with self._lock:
            if self._closed:
                return
            event = f"id: {self._name}.{self._first + len(self._events)}\nevent: {kind}\ndata: {text}\n\n".encode()
            self._events.append(event)
            self._bytes += len(event)
            while self._bytes > self._most and len(self._events) > 1:
                self._bytes -= len(self._events.pop(0))
                self._first += 1
        self._ring()

    def close(self) -> None:
        """End the stream of every reader that has read all."""
        with self._lock:
            self._closed = True
        self._ring()

    @property
    def next_id(self) -> int:
        """The number of the event to come."""
        with self._lock:
            return self._first + len(self._events)

    def after(self, seen: str) -> int | None:
        """Return the number of the event after one with this id; ``None`` if the id is none of this channel's, as that
        of an earlier server is."""
        name, _, number = seen.partition(".")
        return int(number) + 1 if name == self._name and re.fullmatch(r"\d{1,15}", number) else None

    async def follow(self, start: int = 0) -> AsyncIterator[bytes]:
        """Yield events from number ``start`` on, in the form of server-sent events, until the channel is closed."""
        loop, bell = asyncio.get_running_loop(), asyncio.Event()

        def ring() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(bell.set)

        with self._lock:
            self._bells.add(ring)
        try:
            while True:
                bell.clear()
                with self._lock:
                    start = max(start, self._first)
                    found, closed = self._events[start - self._first :], self._closed
                for event in found:
                    yield event
                start += len(found)
                if closed and not found:
                    return
                if not found:
                    try:
                        await asyncio.wait_for(bell.wait(), QUIET_SECONDS)
                    except TimeoutError:
                        yield b": still here\n\n"
        finally:
            with self._lock:
                self._bells.discard(ring)

    def _ring(self) -> None:
        with self._lock:
            bells = list(self._bells)
        for ring in bells:
            ring()
