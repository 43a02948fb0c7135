"""Reading what clients send: JSON and forms with files, bounded in size. Nothing in them names a place here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

from starlette.requests import Request

from steer.plugin import TYPED
from steer_live.asked import RefusedError

MOST_JSON = 1024**2
MOST_FORM = 50 * 1024**2
"""Bytes of a request; OpenAI's images may have as many."""
MOST_DRAINED = 1024**3
"""Bytes of a too large request that are read and dropped, so that the client gets its answer."""
MOST_PARTS = 100


@dataclass(frozen=True)
class Upload:
    """A file that was sent: its name, for messages and its ending alone, and its content."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Form:
    """A form: its fields, those like ``steer[method]`` as tables, and its files by field."""

    fields: dict[str, Any]
    files: dict[str, list[Upload]]


async def read_json(request: Request, most: int = MOST_JSON) -> dict[str, Any]:
    """Return the object that a request carries.

    Raises:
        RefusedError: for another type, too many bytes, or something else than an object.
    """
    # a page in a browser cannot send this type to another origin unasked
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise RefusedError("expected Content-Type: application/json", status=415)
    data = await _body(request, most)
    try:
        found = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is not JSON: {str(error)[:100]}") from None
    if not isinstance(found, dict):
        raise RefusedError("the body is no JSON object")
    return found


async def read_form(request: Request, most: int = MOST_FORM) -> Form:
    """Return the form that a request carries.

    Raises:
        RefusedError: for another type, too many bytes, or a form that cannot be read.
    """
    kind = Message()
    kind["Content-Type"] = request.headers.get("content-type", "")
    boundary = kind.get_param("boundary")
    if kind.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise RefusedError("expected Content-Type: multipart/form-data with a boundary", status=415)
    return parse_form(await _body(request, most), boundary)


def parse_form(body: bytes, boundary: str) -> Form:
    """Parse a body of multipart/form-data (RFC 7578).

    Raises:
        RefusedError: if it cannot be read.
    """
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"))
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise RefusedError("the form is cut off, or has another boundary than its type says")
    if len(parts) > MOST_PARTS:
        raise RefusedError(f"the form has more than {MOST_PARTS} parts")
    fields: dict[str, Any] = {}
    files: dict[str, list[Upload]] = {}
    for part in parts[1:-1]:
        head, gap, data = part.partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n"))
        name = headers.get_param("name", header="content-disposition")
        if not gap or not isinstance(name, str):
            raise RefusedError("a part of the form has no name")
        file = headers.get_filename()
        if file is not None:
            files.setdefault(name.removesuffix("[]"), []).append(Upload(file[:200], data))
            continue
        try:
            _put(fields, name, data.decode())
        except UnicodeDecodeError:
            raise RefusedError(f"field {name[:60]!r} of the form is not UTF-8") from None
    return Form(fields, files)


def typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings from a form, where all is text, with numbers as numbers; what is none stays, to be refused."""
    return {key: _number(value, TYPED[key].kind) if key in TYPED else value for key, value in fields.items()}


def whole(value: Any) -> Any:
    """Return a text that is a whole number as a number, and anything else as it is."""
    return _number(value, (int,))


def _number(value: Any, kinds: tuple[type, ...]) -> Any:
    if isinstance(value, str) and str not in kinds:
        for kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _put(fields: dict[str, Any], name: str, value: str) -> None:
    """Put a field into its table: ``steer[options][fk][lambda]``, ``steer[method][]``."""
    first, rest = re.match(r"([^\[]*)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    keys = [first, *re.findall(r"\[([^\]]*)\]", rest)]
    table: Any = fields
    for key, then in zip(keys, [*keys[1:], None], strict=True):
        last = then is None or then == ""
        if not isinstance(table, dict) or (last and not isinstance(table.get(key, []), list) and then == ""):
            raise RefusedError(f"field {name[:60]!r} contradicts another")
        if then == "":
            table.setdefault(key, []).append(value)
            return
        if last:
            if key in table:
                raise RefusedError(f"field {name[:60]!r} is there twice")
            table[key] = value
            return
        table = table.setdefault(key, {})


async def _body(request: Request, most: int) -> bytes:
    length = request.headers.get("content-length", "")
    body, size = bytearray(), 0
    large = length.isdecimal() and int(length) > most
    async for part in request.stream():
        size += len(part)
        large |= size > most
        if not large:
            body += part
        if size > MOST_DRAINED:
            break
    if large:
        raise RefusedError(f"the request has more than {most // 1024**2} MB", status=413, code="too_large")
    return bytes(body)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
