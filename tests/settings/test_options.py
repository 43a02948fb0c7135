"""Options are declared once; the declaration validates, explains and complains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pytest

from steer import Field, Options, SteerError
from steer.settings.options import build, describe, parse_assignments


class Sample(Options):
    strength: float = Field(1.0, ge=0, le=5, description="How strong.", alias="lambda")
    count: int = Field(4, gt=1, description="How many.")
    kind: Literal["soft", "hard"] = "soft"
    at: tuple[int, ...] | None = None
    name: str


def test_text_as_typed_becomes_values() -> None:
    options = build(Sample, {"lambda": "2.5", "count": "7", "kind": "hard", "at": "1, 2,3", "name": "x"}, "mine")
    assert (options.strength, options.count, options.kind, options.at) == (2.5, 7, "hard", (1, 2, 3))
    assert build(Sample, {"at": "none", "name": "none"}, "mine").at is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambda": "6"}, "option mine.lambda: got '6', expected float >= 0, <= 5"),
        ({"lambda": "nan"}, "option mine.lambda: got 'nan'"),
        ({"count": "two"}, "option mine.count: got 'two', expected int > 1"),
        ({"count": "1"}, "option mine.count: got '1'"),
        ({"kind": "sof"}, r"got 'sof', expected soft\|hard"),
        ({"at": "1,x"}, "option mine.at: got '1,x', expected int,… or none"),
        ({"cuont": "1"}, "unknown option mine.cuont — did you mean 'count'"),
        ({}, "option mine.name: got .*expected str"),
    ],
)
def test_a_wrong_value_says_option_got_and_expected(values, message) -> None:
    given = values if not values else {"name": "x", **values}
    with pytest.raises(SteerError, match=message) as caught:
        build(Sample, given, "mine")
    assert "\n" not in str(caught.value)


def test_describe_is_what_build_accepts() -> None:
    rows = {row.name: row for row in describe(Sample)}
    assert list(rows) == ["lambda", "count", "kind", "at", "name"]
    assert (rows["lambda"].type, rows["lambda"].default, rows["lambda"].range) == ("float", "1.0", ">= 0, <= 5")
    assert rows["lambda"].meaning == "How strong."
    assert rows["kind"].type == "soft|hard"
    assert rows["name"].default == "required"
    defaults = {name: row.default for name, row in rows.items() if row.default != "required"}
    assert build(Sample, {**defaults, "name": "x"}, "mine") == Sample(name="x")


def test_assignments() -> None:
    assert parse_assignments(["fk.particles=8", "fk.lambda=1=2", "./m.py.a=b"]) == {
        "fk": {"particles": "8", "lambda": "1=2"},
        "./m.py": {"a": "b"},
    }
    assert parse_assignments(["a.b=1", "a.b=1"]) == {"a": {"b": "1"}}
    with pytest.raises(SteerError, match=r"option a.b is given twice: '1' and '2'"):
        parse_assignments(["a.b=1", "a.b=2"])
    for bad in ("particles=8", "fk.particles", "=1", ".x=1", "fk.=1", ""):
        with pytest.raises(SteerError, match=r"not of the form PLUGIN.OPTION=VALUE"):
            parse_assignments([bad])


def test_options_are_immutable() -> None:
    with pytest.raises(Exception, match="frozen"):
        Sample(name="x").count = 5


def test_an_option_by_its_older_name_is_taken_as_what_it_is_called_now() -> None:
    class Renamed(Options):
        renamed: ClassVar[Mapping[str, str]] = {"normalise": "normalize"}
        normalize: float = 1.0

    assert build(Renamed, {"normalise": "0.5"}, "mine") == Renamed(normalize=0.5)
    assert [row.name for row in describe(Renamed)] == ["normalize"]
