"""Prompt files: every format, what a line may set for itself, and what a bad one says."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from steer.errors import SteerError
from steer.prompts.files import collect, parse_prompts, read_prompts
from steer.prompts.prompt import Prompt
from steer.prompts.rows import as_row, from_row

ROW = {
    "prompt": "a red circle", "id": "r1", "category": "color", "seed": 7, "size": "32x16", "steps": 5, "guidance": 3.5,
    "negative": "a square", "particles": 4, "options": {"fk": {"lambda": 4.0}}, "note": "kept",
}  # fmt: skip
OVERRIDES = {"width": 32, "height": 16, "steps": 5, "guidance_scale": 3.5, "particles": 4}


def check(prompt: Prompt) -> None:
    assert (str(prompt), prompt.id, prompt.category, prompt.seed) == ("a red circle", "r1", "color", 7)
    assert prompt.settings == OVERRIDES
    assert prompt.metadata == {"negative": "a square", "note": "kept"}
    assert {owner: {k: float(v) for k, v in table.items()} for owner, table in prompt.options.items()} == {
        "fk": {"lambda": 4.0}
    }


def as_csv(options: str) -> str:
    cells = {**ROW, "options": options}
    return ",".join(cells) + "\n" + ",".join(f'"{cell!s}"' for cell in cells.values()) + "\n"


def test_the_scale_of_true_cfg_can_be_a_rows_own() -> None:
    for name in ("true_cfg", "true_cfg_scale"):
        assert from_row({"prompt": "a red circle", name: "3"}, "a row", typed=False).settings == {"true_cfg_scale": 3.0}
    (prompt,) = parse_prompts(b"--prompt a red circle --true-cfg 3", name="f.txt")
    assert prompt.settings == {"true_cfg_scale": 3.0}


def test_a_row_says_the_same_in_every_format(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROW, {"prompt": "other"}]), tmp_path / "p.parquet")
    first, second = read_prompts(tmp_path / "p.parquet")
    check(first)
    assert (second.settings, second.options, second.metadata, second.seed) == ({}, {}, {}, None)
    flags = (
        '--prompt "a red circle" --id r1 --category=color --seed 7 --width 32 --height 16 --steps 5 --cfg_scale 3.5 '
        "--negative_prompt a square --particles 4 --option fk.lambda=4"
    )
    (prompt,) = parse_prompts(flags.encode(), name="f.txt")
    check(prompt.having(metadata={**prompt.metadata, "note": "kept"}))
    for kind, text in (
        ("jsonl", json.dumps(ROW)),
        ("json", json.dumps([{**ROW, "size": [32, 16]}], indent=1)),
        ("jsonl", json.dumps({**ROW, "options": ["fk.lambda=4"]})),
        ("csv", as_csv("fk.lambda=4")),
        ("csv", as_csv('{""fk"": {""lambda"": 4}}')),
        ("tsv", as_csv("fk.lambda=4").replace(",", "\t")),
    ):
        (prompt,) = parse_prompts(text.encode(), name="file", kind=kind)
        check(prompt)
        check(from_row(as_row(prompt), "again"))


def test_lines_of_text_are_prompts_and_lines_of_flags_are_read() -> None:
    text = "a red circle -- wide\r\n\r\n--prompt a dog's bowl --seed -1\n--prompt \"it's\" --sampler_name 'Euler a'\n"
    with pytest.raises(SteerError, match="line 3: no closing quotation"):
        parse_prompts(text.encode(), name="f.txt")
    plain, bowl, own = parse_prompts(text.replace("a dog's bowl", '"a dog\'s bowl"').encode(), name="f.txt")
    assert plain == "a red circle -- wide" and plain.settings == {}
    assert bowl == "a dog's bowl" and bowl.seed is None
    assert own == "it's" and own.settings == {"scheduler": "euler-a"}


def test_keys_in_other_cases_are_known_and_misspelled_ones_are_told() -> None:
    (prompt,) = parse_prompts(
        b"Prompt\tCategory\tChallenge\na red circle\tcolor\tBasic\n", name="parti.tsv", kind="tsv"
    )
    assert (str(prompt), prompt.category, prompt.metadata) == ("a red circle", "color", {"Challenge": "Basic"})
    assert from_row({"PROMPT": "a", "Seed": 3}, "row").seed == 3
    with pytest.warns(UserWarning, match="a key 'Steps-', which is metadata; did you mean 'steps'"):
        assert from_row({"prompt": "a", "Steps-": 3}, "row").metadata == {"Steps-": 3}


def test_another_key_that_could_hold_the_prompt_is_metadata() -> None:
    prompt = from_row({"text": "not this", "prompt": "a", "Caption": "nor this"}, "row")
    assert (str(prompt), prompt.metadata) == ("a", {"text": "not this", "Caption": "nor this"})
    assert from_row(as_row(prompt), "again").metadata == prompt.metadata


def test_geneval_rows_are_taken_as_they_are() -> None:
    row = {"tag": "two_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"}
    (prompt,) = parse_prompts(json.dumps(row).encode(), name="g.jsonl", kind="jsonl")
    assert prompt.category == "two_object"
    assert prompt.metadata == {"tag": "two_object", "include": row["include"]}


@pytest.mark.parametrize(
    "text", ["a 🦊 in the snow", "כלב אדום", "../../etc/passwd\\x", "<img src=x onerror=alert(1)>", "a " * 5000]
)
def test_any_text_is_a_prompt_in_any_format(text: str, tmp_path: Path) -> None:
    quoted = text.strip().replace("\\", "\\\\")
    assert parse_prompts(text.encode(), name="f.txt") == [text.strip()]
    assert parse_prompts(f'--prompt "{quoted}"'.encode(), name="f.txt") == [text.strip()]
    assert parse_prompts(f'prompt\n"{text}"'.encode(), name="f.csv", kind="csv") == [text.strip()]
    assert parse_prompts(json.dumps([text]).encode(), name="f.json", kind="json") == [text.strip()]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("txt", b"fine\n\xff\n", "line 2 cannot be read"),
        ("txt", b"--prompt a --sede 3", "line 1: --sede is not supported — did you mean 'seed'"),
        ("txt", b"--seed 3", "line 1: has no text"),
        ("txt", b"--prompt a --batch_size 4", "give --particles"),
        ("txt", b"--prompt a --seed 1 --seed 2", "given twice"),
        ("jsonl", b'{"prompt": "a"}\n[', "line 2: not JSON"),
        ("jsonl", b'{"prompt": "a", "steps": "5"}', "line 1: steps='5': expected int in 1..10000"),
        ("jsonl", b'{"prompt": "a", "size": 512}', "line 1: size 512: expected WIDTHxHEIGHT"),
        ("jsonl", b'{"prompt": "a", "negative": 3}', "line 1: negative=3: expected str (negative prompt)"),
        ("jsonl", b'{"prompt": "a", "options": {"fk": 3}}', "line 1: options are"),
        ("json", b'{"prompt": "a"}', "expected a list"),
        ("csv", b"a,b\n1,2", "expected one named 'prompt'"),
        ("csv", b"prompt,steps\n\"two\nlines\",3\na,many", "line 4: got steps 'many', expected a whole number"),
        ("csv", b"prompt\na,b", "line 2: 2 cells under 1 columns"),
        ("csv", b"prompt,seed\na,1.5", "line 2: got seed '1.5'"),
        ("csv", b"prompt,guidance\na,much", "line 2: got guidance 'much'"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(kind: str, text: bytes, said: str) -> None:
    with pytest.raises(SteerError) as caught:
        parse_prompts(text, name="file", kind=kind)
    assert said in str(caught.value)


def test_bad_rows_can_be_skipped_and_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "id": "x"}\n{oops\n{"prompt": "b"}\n')
    (tmp_path / "b.csv").write_text("id,prompt\nx,again\ny,c\n")
    files = [tmp_path / "a.jsonl", tmp_path / "b.csv"]
    with pytest.raises(SteerError, match="line 2: not JSON"):
        collect(files)
    found = collect(files, skip_bad=True)
    assert found.prompts == ["a", "b", "c"]
    assert [str(error).split(str(tmp_path))[-1] for error in found.bad] == [
        "/a.jsonl, line 2: not JSON (Expecting property name enclosed in double quotes at column 2)",
        "/b.csv, line 2 both have the id 'x'; ids must differ (or be left out)",
    ]
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(SteerError, match="holds no prompt that can be read"):
        collect([tmp_path / "bad.jsonl"], skip_bad=True)


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_text("no")
    with pytest.raises(SteerError, match="cannot be read as Parquet"):
        read_prompts(tmp_path / "p.parquet")
    with pytest.raises(SteerError, match="does not exist"):
        read_prompts(tmp_path / "q.parquet")
