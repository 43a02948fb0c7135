"""One reader of small text files: every byte order mark is taken, and nothing else reads what people write."""

import ast
import codecs
from collections.abc import Iterator
from pathlib import Path

import pytest

from steer.errors import SteerError
from steer.settings.text_files import read_text

ROOT = Path(__file__).resolve().parents[2]

EXEMPT = {
    "steer/settings/text_files.py": "the reader",
    "steer/evaluate/agreement.py": "/proc",
    "steer/evaluate/compare/memory.py": "/proc",
    "steer/evaluate/score/rows.py": "its own rows, to which it appends",
    "steer/training/log.py": "its own log",
    "steer/render/page/build.py": "parts of the package",
    "steer/testing/scaffold.py": "parts of the package",
    "steer/registry/facade.py": "a module of the package",
    "plugins/steer_text/data.py": "parts of the package",
    "plugins/steer_text/train/task.py": "a file that it has just written",
    "plugins/steer_shapes/train/export.py": "a file that it has just written",
    "plugins/steer_dmd2/train/data.py": "its own cache",
}
"""Files that may read text by themselves, and what they read."""


def reads_text(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of calls that read a file as text: ``x.read_text()``, ``open(x)``, ``x.open("r")``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = [
            str(value.value)
            for value in values
            if isinstance(value, ast.Constant) and str(value.value)[:1] in tuple("rwab")
        ]
        reading = all(set(mode) <= {"r", "t", "+"} for mode in modes)
        if (name == "read_text" and method) or (name == "open" and reading and (modes or not method)):
            yield node.lineno


@pytest.mark.slow
def test_nothing_else_reads_text() -> None:
    found = {
        file.relative_to(ROOT).as_posix(): lines
        for folder in ("steer", "plugins")
        for file in (ROOT / folder).rglob("*.py")
        if (lines := list(reads_text(ast.parse(file.read_text(encoding="utf-8")))))
    }
    others = {file: lines for file, lines in found.items() if file not in EXEMPT}
    assert not others, "read files that people write by steer.settings.text_files.read_text"
    assert set(EXEMPT) <= set(found) | {"steer/settings/text_files.py"}


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_every_mark_is_taken(tmp_path: Path, mark: bytes, encoding: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(mark + "seed = 1 # für 赤".encode(encoding))
    assert read_text(file, "file") == "seed = 1 # für 赤"


def test_what_is_not_unicode_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes("eins\nfür".encode("cp1252"))
    with pytest.raises(SteerError, match=r"line 2 cannot be read: byte 0xfc is not UTF-8"):
        read_text(file, "file")
