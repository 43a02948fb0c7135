"""Options of plugins: declared once, used for parsing, validation, defaults and documentation.

A plugin declares its options as a subclass of :class:`Options`; every field carries its type, default,
range (``ge``, ``le``, ``gt``, ``lt``) and a description::

    class MyOptions(Options):
        strength: float = Field(1.0, ge=0, description="Weight of the push; 0 turns it off.")
"""

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic
from pydantic import Field
from pydantic_core import PydanticUndefined

from steer.errors import SteerError, nearest

__all__ = ["Field", "OptionRow", "Options", "build", "describe", "parse_assignments"]


class Options(pydantic.BaseModel):
    """Base of every plugin's options: immutable, and an unknown name is an error.

    Attributes:
        renamed: older names of options and their present ones, so that recipes of earlier versions still work.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, validate_default=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class OptionRow:
    """One option as shown to people and scripts."""

    name: str
    type: str
    default: str
    range: str
    meaning: str


def parse_assignments(assignments: Iterable[str]) -> dict[str, dict[str, str]]:
    """Parse ``["fk.particles=8", …]`` into ``{"fk": {"particles": "8"}}``.

    Raises:
        SteerError: if an item does not have the form ``plugin.option=value``, or an option has two values.
    """
    parsed: dict[str, dict[str, str]] = {}
    for item in assignments:
        key, equals, value = item.partition("=")
        owner, dot, name = key.strip().rpartition(".")
        if not (equals and dot and owner and name):
            raise SteerError(
                f"option {item[:80]!r} is not of the form PLUGIN.OPTION=VALUE (for example fk.particles=8)"
            )
        values = parsed.setdefault(owner, {})
        if name in values and values[name] != value:
            raise SteerError(f"option {owner}.{name} is given twice: {values[name]!r} and {value!r}; keep one")
        values[name] = value
    return parsed


def build(declaration: type[Options], values: Mapping[str, Any], owner: str) -> Options:
    """Validate ``values`` against a declaration; ``owner`` is the plugin's name, used in messages.

    Raises:
        SteerError: naming the option, what was got and what was expected.
    """
    values = {declaration.renamed.get(name, name): value for name, value in values.items()}
    known = {field.alias or name for name, field in declaration.model_fields.items()}
    for name in values:
        if name not in known:
            listing = ", ".join(sorted(known)) or "none"
            raise SteerError(f"unknown option {owner}.{name}{nearest(name, known)} (options of {owner}: {listing})")
    cleaned = {k: _from_text(declaration, k, v) for k, v in values.items()}
    try:
        return declaration.model_validate(cleaned)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        if not name:
            raise SteerError(f"options of {owner}: {first['msg'].removeprefix('Value error, ')}") from None
        row = next((r for r in describe(declaration) if r.name == name), None)
        expected = f"expected {row.type}{' ' + row.range if row.range else ''}" if row else first["msg"]
        detail = first["msg"].removeprefix("Value error, ") if first["type"] == "value_error" else ""
        got = values.get(name, first.get("input"))
        raise SteerError(f"option {owner}.{name}: got {got!r}, {expected}{'; ' + detail if detail else ''}") from None


def describe(declaration: type[Options]) -> list[OptionRow]:
    """List a declaration's options in order."""
    return [
        OptionRow(
            name=field.alias or name,
            type=_type_name(field.annotation),
            default="required" if field.default is PydanticUndefined else _default_text(field.default),
            range=_range_text(field.metadata),
            meaning=field.description or "",
        )
        for name, field in declaration.model_fields.items()
    ]


def value_of(options: Options, name: str) -> tuple[Any, bool]:
    """Return the value of the option that users call ``name``, and whether it was set explicitly."""
    field = next(own for own, field in type(options).model_fields.items() if name == (field.alias or own))
    return getattr(options, field), field in options.model_fields_set


def _from_text(declaration: type[Options], name: str, value: Any) -> Any:
    """Turn ``"none"`` and comma lists, as typed on a command line, into values of the field's type."""
    if not isinstance(value, str):
        return value
    field = next(f for n, f in declaration.model_fields.items() if name in (n, f.alias))
    parts = _members(field.annotation)
    if type(None) in parts and value.lower() == "none":
        return None
    if any(typing.get_origin(part) in (tuple, list) for part in parts):
        return [piece.strip() for piece in value.split(",") if piece.strip()]
    return value


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _type_name(annotation: Any) -> str:
    names = []
    for part in _members(annotation):
        origin = typing.get_origin(part)
        if part is type(None):
            names.append("none")
        elif origin is typing.Literal:
            names.append("|".join(str(value) for value in typing.get_args(part)))
        elif origin in (tuple, list):
            names.append(f"{_type_name(typing.get_args(part)[0])},…")
        else:
            names.append(getattr(part, "__name__", str(part)))
    return " or ".join(names)


def _default_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        return ",".join(str(part) for part in value)
    return str(value)


_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"), ("multiple_of", "multiple of"))


def _range_text(metadata: Iterable[Any]) -> str:
    texts = []
    for item in metadata:
        for attribute, sign in _BOUNDS:
            bound = getattr(item, attribute, None)
            if bound is not None:
                texts.append(f"{sign} {bound:g}")
    return ", ".join(texts)
