"""JSON that every parser reads, whatever is in the data, and from one place."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steer.errors import SteerError
from steer.settings.strict_json import json_text, read_object

ROOT = Path(__file__).resolve().parents[2]
WRITER = ROOT / "steer" / "settings" / "strict_json.py"
INF = float("inf")


def strictly(text: str) -> Any:
    """Read JSON as parsers do that know no NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text.encode(), parse_constant=refuse)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ({"a": float("nan"), "b": [INF, -INF, 1.5]}, {"a": None, "b": [None, None, 1.5]}),
        (({"d": {"e": INF}},), [{"d": {"e": None}}]),
        ({INF: 1, 2.5: 2, 3: 3}, {"inf": 1, "2.5": 2, "3": 3}),
        ([np.float32(0.5), np.float64("nan"), np.int64(7), np.array([1.0, INF])], [0.5, None, 7, [1.0, None]]),
        (torch.tensor([0.5, INF]), [0.5, None]),
        (Path("a"), "a"),
        (["\udc80", "猫", "😀", "\u2028"], ["\udc80", "猫", "😀", "\u2028"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("readable", [False, True])
def test_what_is_written_is_read_strictly(data: Any, read: Any, readable: bool) -> None:
    assert strictly(json_text(data, readable=readable)) == read


@pytest.mark.slow
def test_nobody_else_writes_json() -> None:
    others = []
    for file in {*(ROOT / "steer").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")} - {WRITER}:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.ImportFrom(module="json") | ast.Import(names=[ast.alias("json", str())]):
                    others.append(f"{file}:{node.lineno}")
                case ast.Attribute(ast.Name("json"), name) if name not in ("loads", "JSONDecodeError", "JSONDecoder"):
                    others.append(f"{file}:{node.lineno}")
    assert not others, "use json_text"


@pytest.mark.parametrize(
    ("text", "told"),
    {
        "cut": ('{"steps": ', "cannot be read as JSON"),
        "another kind": ("[1]", "holds a JSON list, expected an object"),
        "deeper than can be read": ("[" * 100_000, "cannot be read as JSON"),
    }.values(),
)
def test_a_file_without_an_object_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "card.json"
    file.write_text(text)
    with pytest.raises(SteerError, match=f"card {file} {told}"):
        read_object(file, "card")
    file.write_bytes(b"\xef\xbb\xbf" + b'{"steps": 4}')
    assert read_object(file, "card") == {"steps": 4}
