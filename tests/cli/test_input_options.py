"""What models draw from besides a text: typed, in run files, in rows; kept in the metadata."""

from __future__ import annotations

import pytest

from steer import Prompt, SteerError
from steer.cli.parts.input_options import check_inputs
from steer.prompts.inputs import prompts_with
from steer.registry.declarations import Input

KNOWN = {"mask": Input("FILE"), "class": Input("NAME"), "nearest": Input("")}


def test_each_value_makes_a_prompt_and_given_prompts_get_one() -> None:
    rows = prompts_with(None, {"mask": ["a/one.png", "b/one.png"], "nearest": True}, KNOWN)
    assert [str(row) for row in rows] == ["mask one", "mask one"]
    assert len({row.id for row in rows}) == 2
    assert [dict(row.metadata) for row in rows] == [{"nearest": True, "mask": f"{x}/one.png"} for x in "ab"]
    given = prompts_with([Prompt("x"), Prompt("y", metadata={"class": "own"})], {"class": ["typed"]}, KNOWN)
    assert [row.metadata["class"] for row in given] == ["typed", "own"]
    assert [str(row) for row in prompts_with([Prompt("x")], {}, KNOWN)] == ["x"]
    with pytest.raises(SteerError, match="got --class 2 times beside prompts, expected it once"):
        prompts_with([Prompt("x")], {"class": ["a", "b"]}, KNOWN)


def test_inputs_of_a_run_file_are_checked() -> None:
    assert check_inputs({"class": "disc", "nearest": True}) == {"class": ["disc"], "nearest": True}
    with pytest.raises(SteerError, match="unknown input 'clas' — did you mean 'class'"):
        check_inputs({"clas": "disc"})
    with pytest.raises(SteerError, match=r"inputs\.class is \[\], expected a text or a list of texts"):
        check_inputs({"class": []})
    with pytest.raises(SteerError, match=r"inputs\.nearest is 'yes', expected true or false"):
        check_inputs({"nearest": "yes"})
