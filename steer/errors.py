"""``SteerError``: mistakes that the user can fix; and helpers for messages."""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator


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


STATUS: dict[int, str] = {
    401: "it asks for a login: log in first, on the hub with `hf auth login`",
    403: "it denies access: ask its owner for it, or log in with an account that has it",
    404: "there is nothing at that address: check its spelling",
    407: "a proxy asks for a login: put it into HTTPS_PROXY",
    408: "it did not answer in time: try again",
    410: "what was there is gone",
    429: "it had too many requests: wait some minutes, or log in",
}
"""What a web server's answer means, and what helps."""

SYSTEM: dict[int, str] = {
    errno.ECONNREFUSED: "no server answers at that address: check it, its port and the proxy",
    errno.ENETUNREACH: "there is no network",
    errno.EHOSTUNREACH: "there is no way to that server: check the network",
    errno.ECONNRESET: "the connection broke off: try again",
    errno.ENOSPC: "the disk is full: make room",
    errno.EACCES: "permission is denied",
    errno.EROFS: "the disk cannot be written to",
}
"""What the system's word on a file or a connection means, and what helps."""


def cause_of(error: BaseException) -> str:
    """Return why something could not be fetched or read, and what helps, from the error of whatever client did it.

    Clients wrap what happened in errors of their own; the first in the chain that says something is taken.
    """
    for one in _chain(error):
        answer = getattr(one, "response", one)
        codes = (getattr(answer, name, None) for name in ("status_code", "status", "code"))
        status = next((code for code in codes if code), None)
        if isinstance(status, int) and status in STATUS:
            return f"{STATUS[status]} (HTTP {status})"
        if isinstance(status, int) and 500 <= status < 600:
            return f"the server has a fault: try again later (HTTP {status})"
        kinds = {kind.__name__ for kind in type(one).__mro__}  # by name: their modules are slow to import
        if "gaierror" in kinds:
            return "the server's name is not known: check its spelling and the network"
        if "SSLError" in kinds:
            return f"its certificate is not trusted ({message_of(one, 80)}): set SSL_CERT_FILE to your network's"
        if isinstance(one, TimeoutError) or type(one).__name__.endswith("Timeout"):
            return "it did not answer in time: try again, or check the network"
        if isinstance(one, OSError) and one.errno in SYSTEM:
            return SYSTEM[one.errno]
    return f"{type(error).__name__}: {message_of(error)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it, each once."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and not any(one is other for other in seen):
            seen.append(one)
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), getattr(one, "os_error", None)]


def package_missing(error: BaseException) -> str | None:
    """Return the name of the package that an error of a library asks for, if it does; not that of a part of one."""
    for one in _chain(error):
        said = str(one)
        asked = re.search(r"pip3? install (?:-U |--upgrade )?['\"`]?([A-Za-z][\w.-]*)", said)
        asked = asked or re.search(r"requires? (?:the )?[`'\"]?([A-Za-z][\w-]*)[`'\"]? (?:library|package)", said)
        if isinstance(one, ImportError) and asked:
            return asked[1].rstrip(".").lower()
        if isinstance(one, ModuleNotFoundError) and one.name:
            return PACKAGES.get(one.name.partition(".")[0], one.name.partition(".")[0])
    return None


PACKAGES = {"google": "protobuf", "cv2": "opencv-python", "PIL": "pillow", "sklearn": "scikit-learn"}
"""Packages that have another name than the module that they bring."""
