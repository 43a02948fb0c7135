"""``SteerError``: mistakes that the user can fix; and helpers for messages."""

import difflib
from collections.abc import Iterable


class SteerError(Exception):
    """A mistake that the user can fix.

    The message is one line with the given value, the expected one and the fix. The command line
    prints it and exits with code 2; every other exception is a bug and keeps its traceback.
    """


class RewardError(SteerError):
    """A reward that raised an exception or returned something other than scores."""


def message_of(error: BaseException, most: int = 160) -> str:
    """Return a library error's message on one line of at most ``most`` characters, or its class if there is none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 1]}…"


def one_line(text: str) -> str:
    """Return text on one line, without control characters (prompts may come from untrusted files)."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """Return a text of about ``most`` characters at most, the middle left out: the end says what to do."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` — did you mean 'x'?`` for the known name closest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" — did you mean {matches[0]!r}?" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> SteerError:
    """Return the error for a name that is not registered."""
    names = sorted(known)
    listing = ", ".join(names) if names else "none"
    return SteerError(f"unknown {kind} {name!r}{nearest(name, names)} (known: {listing})")
