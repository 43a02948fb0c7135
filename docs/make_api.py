"""Writes docs/api.md from the docstrings of the public names: ``python docs/make_api.py``."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).with_name("api.md")

INTRODUCTION = """# API reference

Made from the docstrings by `python docs/make_api.py`; do not edit by hand.

A plugin may import these names and no others of steer. Everything is loaded at first use, so that importing `steer`
or `steer.plugin` does not import torch.
"""

FACADES = {
    "steer": "For users, and the bases of plugins.",
    "steer.plugin": "Every further name for plugin authors.",
    "steer.testing": "Does a plugin keep its contract?",
    "steer.training": "The training loop and its parts.",
}

WIDTH = 100
HEADINGS = ("Args", "Attributes", "Returns", "Yields", "Raises")


def reference() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *(part for name in FACADES for part in _facade(name))])


def _facade(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"## {name}\n"
    yield f"{FACADES[name]}\n"
    for title, names in _sections(module):
        if title:
            yield f"### {title}\n"
        for exported, summary in names.items():
            yield from _entry(exported, getattr(module, exported), summary)


def _sections(module: ModuleType) -> list[tuple[str, dict[str, str]]]:
    """Return the public names with their summaries, under the headings: both are comments in the module's table."""
    table = re.search(r"if TYPE_CHECKING:.*?# isort: off\n(.*?)# isort: on", inspect.getsource(module), re.DOTALL)
    if table is None:
        return [("", dict.fromkeys(sorted(module.__all__), ""))]
    sections: list[tuple[str, dict[str, str]]] = []
    for line in table[1].splitlines():
        line, _, summary = line.strip().partition("  # ")
        if line.startswith("from"):
            sections[-1][1][line.split()[-1]] = summary
        elif line:
            sections.append((line.lstrip("# "), {}))
    return sections


def _entry(name: str, value: Any, summary: str) -> Iterator[str]:
    yield f"#### {name}\n"
    if summary:
        yield f"{summary[0].upper()}{summary[1:]}.\n"
    if not getattr(value, "__module__", "").startswith("steer"):  # of another library, or a constant
        if isinstance(value, (str, int, float, tuple, dict)) and len(repr(value)) < 300:
            yield f"`{value!r}`\n"
        return
    signature = _signature(value, name)
    if signature:
        yield f"```python\n{signature}\n```\n"
    text = _docstring(value)
    if text:
        yield f"{text}\n"
    if inspect.isclass(value):
        for member, function in _methods(value):
            yield f"- `{member}{'' if isinstance(function, property) else '()'}`: {_first_line(function)}"
        yield ""


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class of steer defines itself or takes from another of steer."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("steer"):
            continue
        for name, value in vars(base).items():
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            documented = inspect.isfunction(function) or isinstance(function, property)
            if documented and not name.startswith("_") and name not in seen and inspect.getdoc(function):
                seen.add(name)
                yield name, function


def _signature(value: Any, name: str) -> str:
    """Return a call as it is written, with a line for each parameter if it is long."""
    if not callable(value) or (inspect.isclass(value) and _made_by_nobody(value)):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    written = _written(value)
    result = "" if inspect.isclass(value) else f" -> {written.get('return', signature.return_annotation)}"
    signature = signature.replace(
        parameters=[
            p.replace(annotation=written.get(p.name, p.annotation), default=_shown(p.default))
            for p in signature.parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )
    text = f"{name}{signature}{result}".replace("'", "")
    if len(text) <= WIDTH:
        return text
    parts, star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            parts.append("*")
        star |= parameter.kind is parameter.VAR_POSITIONAL
        parts.append(str(parameter).replace("'", ""))
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){result.replace(chr(39), '')}"])


def _shown(default: Any) -> Any:
    """Return a default as it is shown: a function by its name, without its place in memory."""
    return type("Named", (), {"__repr__": lambda _: default.__name__})() if inspect.isfunction(default) else default


def _written(value: Any) -> dict[str, str]:
    """Return the annotations of a call's parameters as they are written in the source, by name."""
    above = reversed(value.__mro__[1:]) if inspect.isclass(value) else ()
    fields = {
        name: text for base in above if base.__module__.startswith("steer") for name, text in _written(base).items()
    }
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    for part in node.body if isinstance(node, ast.ClassDef) else [node]:
        if isinstance(part, ast.AnnAssign):
            fields[ast.unparse(part.target)] = ast.unparse(part.annotation)
        elif isinstance(part, ast.FunctionDef) and (part is node or part.name in ("__init__", "__new__")):
            for argument in ast.walk(part.args):
                if isinstance(argument, ast.arg) and argument.annotation is not None:
                    fields[argument.arg] = ast.unparse(argument.annotation)
            if part is node and part.returns is not None:
                fields["return"] = ast.unparse(part.returns)
    return fields


def _made_by_nobody(cls: type) -> bool:
    """Whether a class's own arguments say nothing: a type alias, or one that is not made by plugins."""
    return not dataclasses.is_dataclass(cls) and "__init__" not in vars(cls) and "__new__" not in vars(cls)


def _first_line(value: Any) -> str:
    return _plain((inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " "))


def _docstring(value: Any) -> str:
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    text = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        made = inspect.getdoc(vars(value).get("__init__")) or ""
        if made.startswith("Args:") or "\nArgs:" in made:
            text = f"{text}\n\n{made}"
    return _plain("\n\n".join(_block(block) for block in re.split(r"\n\n+(?=\S)", text)))


def _block(block: str) -> str:
    """Return a paragraph, or a section such as ``Args:`` as a list."""
    head, _, rest = block.partition("\n")
    title = head.rstrip(":").strip()
    if title not in HEADINGS or not head.endswith(":"):
        return block.replace("::\n\n", ":\n\n") if not block.endswith("::") else block[:-1]
    lines = inspect.cleandoc(rest).splitlines()
    items = [f"- {line}" if not line.startswith(" ") else f"  {line.strip()}" for line in lines if line.strip()]
    if title in ("Returns", "Yields"):
        items = [line.strip() for line in lines]
    return "\n".join([f"**{title}**\n", *items])


def _plain(text: str) -> str:
    """Return a docstring's marks as Markdown."""
    text = re.sub(r":(?:class|func|meth|mod|data|attr):`~?\.?([^`]+)`", lambda match: f"`{_public(match[1])}`", text)
    return text.replace("``", "`")


def _public(name: str) -> str:
    """Return a name of a docstring without the inner modules before it."""
    parts = name.split(".")
    if parts[0] != "steer" or ".".join(parts[:-1]) in FACADES:
        return name
    return ".".join(next((parts[i:] for i, part in enumerate(parts) if part[:1].isupper()), parts[-1:]))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
