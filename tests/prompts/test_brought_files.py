"""Files that people bring from other programs: nothing is silently changed, and what cannot be read is told."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pyarrow
import pyarrow.parquet
import pytest

from steer.errors import SteerError
from steer.processes.schedulers import SCHEDULERS
from steer.prompts.files import Collected, collect, parse_prompts, read_prompts
from steer.prompts.prompt import Prompt
from steer.prompts.rows import as_row, from_row
from steer.prompts.samplers import SAMPLERS
from steer.results.recipe import sampler_name

DATA = Path(__file__).parent / "data"
Row = dict[str, Any]


def cells(rows: list[Row], delimiter: str) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, *([str(row.get(key, "")) for key in columns] for row in rows)]
    return "".join(delimiter.join(line) + "\n" for line in lines)


def write(folder: Path, kind: str, rows: list[Row]) -> Path:
    """Write the same rows in a format; values are of numbers where the format has them."""
    file = folder / f"rows.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif kind in ("csv", "tsv"):
        file.write_text(cells(rows, "," if kind == "csv" else "\t"))
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        file.write_text(json.dumps(rows))
    else:
        flags = (" ".join(f'--{key} "{value}"' for key, value in row.items()) for row in rows)
        file.write_text("\n".join(flags))
    return file


KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "txt")
WHOLE = ("seed", "steps", "particles", "width", "height", "length")


def said(place: Path, **keywords: Any) -> tuple[Collected, list[str]]:
    """Read a file; return what it holds and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = collect([place], **keywords)
    return found, [str(warning.message) for warning in caught]


def refused(place: Path, **keywords: Any) -> str:
    with pytest.raises(SteerError) as caught:
        collect([place], **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def told(tmp_path: Path, kind: str, text: str | bytes, **keywords: Any) -> tuple[list[Prompt], list[str]]:
    file = tmp_path / f"file.{kind}"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    found, warned = said(file, **keywords)
    assert not found.bad
    return found.prompts, warned


# ---- the same value in every format ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", WHOLE)
def test_a_whole_number_may_be_written_with_a_point(kind: str, key: str, tmp_path: Path) -> None:
    (prompt,) = read_prompts(write(tmp_path, kind, [{"prompt": "a red circle", key: 7.0}]))
    value = prompt.seed if key == "seed" else prompt.settings[key]
    assert value == 7 and type(value) is int
    assert f"got {key} " in refused(write(tmp_path, kind, [{"prompt": "a red circle", key: 1.5}]))
    assert f"got {key} " in refused(write(tmp_path, kind, [{"prompt": "a red circle", key: True}]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_of_minus_one_is_none_of_its_own(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "seed": -1}, {"prompt": "b", "seed": 7}]
    assert [prompt.seed for prompt in read_prompts(write(tmp_path, kind, rows))] == [None, 7]
    assert "got seed -2, expected an integer in 0..4294967295" in refused(
        write(tmp_path, kind, [{"prompt": "a", "seed": -2}])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_of_64_bits_has_a_way_out(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, kind, [{"prompt": "a red circle", "seed": 156680208700286}])
    message = refused(file)
    assert "write 4096709502, which is 156680208700286 % 4294967296" in message and "--wrap-seeds" in message
    assert read_prompts(file, wrap_seeds=True)[0].seed == 156680208700286 % 4294967296


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_seed_whose_digits_are_lost_is_refused(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, kind, [{"prompt": "a", "seed": 1.8446744073709552e19}])
    assert "rounded when it was saved" in refused(file, wrap_seeds=True)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_an_empty_value_is_not_set(kind: str, tmp_path: Path) -> None:
    empty = {"jsonl": None, "json": "", "parquet": None}.get(kind, "")
    keys = ("id", "category", *WHOLE, "guidance", "scheduler", "size", "options")
    first = {
        "prompt": "a",
        "id": "x",
        "category": "y",
        **dict.fromkeys(WHOLE, 7),
        "guidance": 2.5,
        "scheduler": "ddim",
        "size": "7x7",
        "options": "fk.lambda=4",
    }
    full, prompt = read_prompts(write(tmp_path, kind, [first, {"prompt": "b", **dict.fromkeys(keys, empty)}]))
    assert full.seed == 7 and full.options == {"fk": {"lambda": "4"}}
    assert (prompt.seed, prompt.category, prompt.settings, prompt.options) == (None, None, {}, {})
    assert prompt == "b" and prompt.metadata == {}


@pytest.mark.parametrize("word", ["NA", "NaN", "null", " "])
def test_a_missing_number_may_be_a_word(word: str, tmp_path: Path) -> None:
    (prompt,), _ = told(tmp_path, "csv", f"prompt,seed,guidance\na,{word},{word}\n")
    assert (prompt.seed, prompt.settings) == (None, {})


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_not_a_number_is_null(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "score": float("nan"), "guidance": float("nan"), "seed": float("nan"), "far": 1e999}]
    found, warned = said(write(tmp_path, kind, [*rows, {"prompt": "b", "score": 1.5, "far": 1.0}]))
    assert {None} >= set(found.prompts[0].metadata.values()) and found.prompts[1].metadata["score"] == 1.5
    assert (found.prompts[0].seed, found.prompts[0].settings) == (None, {})
    json.dumps([as_row(prompt) for prompt in found.prompts], allow_nan=False)
    (warning,) = warned
    assert "infinite" in warning
    assert "got guidance inf" in refused(write(tmp_path, kind, [{"prompt": "a", "guidance": 1e999}]))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("column", ["Prompts", "TEXT", "caption", "Captions", "prompt "])
def test_names_of_the_column_of_prompts(kind: str, column: str, tmp_path: Path) -> None:
    (prompt,) = read_prompts(write(tmp_path, kind, [{column: "a red circle", "Category": "color"}]))
    assert (prompt, prompt.category, prompt.metadata) == ("a red circle", "color", {})


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_any_column_by_name(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, kind, [{"Words": "a red circle", "prompt": "not this", "note": "kept"}])
    for name in ("Words", "words"):
        (prompt,) = read_prompts(file, column=name)
        assert (prompt, prompt.metadata) == ("a red circle", {"note": "kept", "column prompt": "not this"})
    assert (again := from_row(as_row(prompt), "again")) == prompt and again.metadata == prompt.metadata
    assert "Words, prompt, note, expected one named 'word' (--column) — did you mean 'Words'?" in refused(
        file, column="word"
    )
    file = write(tmp_path, kind, [{"Words": "a red circle", "note": "kept"}])
    message = refused(file)
    assert "are Words, note, expected one named 'prompt' (or prompts, text, caption, captions)" in message
    assert "--column" in message
    (tmp_path / "f.txt").write_text("a red circle\n")
    assert "no columns" in refused(tmp_path / "f.txt", column="Words")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_samplers_by_the_names_of_a1111(kind: str, tmp_path: Path) -> None:
    names = {
        "Heun": "heun",
        "DPM2": "dpm2",
        "DPM2 a": "dpm2-a",
        "Euler a": "euler-a",
        "DPM++ 2M Karras": "dpm++-karras",
        "DPM++ 2M SDE": "dpm++-sde",
        "DEIS": "deis",
        "PLMS": "pndm",
        "LMS Karras": "lms-karras",
        "DPM2 a Karras": "dpm2-a-karras",
        "DPM++ 2M SDE Exponential": "dpm++-sde-exponential",
        "k_dpm_2_a": "dpm2-a",
        "k_euler_a": "euler-a",
        "k_dpmpp_2m": "dpm++",
    }
    for key in ("sampler_name", "scheduler"):
        rows = [{"prompt": name, key: name} for name in names]
        found = read_prompts(write(tmp_path, kind, rows))
        assert [prompt.settings["scheduler"] for prompt in found] == list(names.values())
    (prompt,) = read_prompts(
        write(tmp_path, kind, [{"prompt": "a", "sampler_name": "DPM++ 2M", "scheduler": "Karras"}])
    )
    assert prompt.settings == {"scheduler": "dpm++-karras"}
    for other in ("DPM++ SDE", "DPM++ 2M SDE Heun", "Euler a Karras", "Restart"):
        assert f"A1111's sampler '{other}' is not available" in refused(
            write(tmp_path, kind, [{"prompt": "a", "sampler_name": other}])
        )


@pytest.mark.slow  # makes every scheduler of diffusers
def test_every_sampler_named_is_here_and_is_told_by_the_same_name() -> None:
    base = diffusers.DDIMScheduler(clip_sample=False)
    for name, ours in SAMPLERS.items():
        assert ours in SCHEDULERS
        assert name == "deis" or sampler_name(ours, base).lower() == name


def test_two_keys_of_one_setting_must_agree() -> None:
    for row in (
        {"guidance": 3, "cfg_scale": 4},
        {"negative": "a", "negative_prompt": "b"},
        {"size": "512x512", "width": 256},
        {"sampler_name": "Euler", "scheduler": "dpm++"},
    ):
        with pytest.raises(SteerError, match="contradict each other"):
            from_row({"prompt": "a", **row}, "row")
    assert from_row({"prompt": "a", "guidance": 3, "cfg_scale": 3}, "row").settings == {"guidance_scale": 3}
    assert from_row({"prompt": "a", "size": [8.0, 16]}, "row").settings == {"width": 8, "height": 16}
    assert from_row({"prompt": "a", "negative": ""}, "row").metadata == {"negative": ""}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "txt"])
@pytest.mark.parametrize(
    "keys", [("seed", "Seed"), ("SEED", "Seed"), ("prompt", "Prompt"), ("Text", "text"), ("ID", "id")]
)
def test_keys_that_differ_only_in_case_are_refused(keys: tuple[str, str], kind: str, tmp_path: Path) -> None:
    row = {"prompt": "a", **dict.fromkeys(keys, "1")}
    assert f"{keys[0]!r} and {keys[1]!r} are the same key; keep one" in refused(write(tmp_path, kind, [row]))
    other = write(tmp_path, kind, [{"prompt": "a", "Note": "b", "note": "c"}])
    assert said(other)[0].prompts[0].metadata == {"Note": "b", "note": "c"}
    if keys[1] == "Prompt":
        assert said(write(tmp_path, kind, [row]), column="Prompt")[0].prompts == ["1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", ["7.00000000000000000001", "6.99999999999999999999", "9007199254740992.5"])
def test_no_number_is_rounded_to_a_whole_one(number: str, kind: str, tmp_path: Path) -> None:
    if kind == "parquet":  # it has no such numbers but as texts
        refused(write(tmp_path, kind, [{"prompt": "a", "seed": number}]))
        return
    file = write(tmp_path, kind, [{"prompt": "a", "seed": 77}])
    file.write_text(file.read_text().replace("77", number))
    for wrap in (False, True):
        assert number in refused(file, wrap_seeds=wrap) or "rounded when it was saved" in refused(file, wrap_seeds=wrap)


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt"])
def test_a_whole_number_as_text_keeps_its_digits(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, kind, [{"prompt": "a", "seed": "9007199254740993"}])
    assert said(file, wrap_seeds=True)[0].prompts[0].seed == 9007199254740993 % 2**32
    for number in ("9007199254740993.0", "9007199254740.993e3", "9007199254740992.0"):  # perhaps a float's
        file = write(tmp_path, kind, [{"prompt": "a", "seed": number}])
        assert "write all of its digits" in refused(file, wrap_seeds=True)


# ---- tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("csv", '"a ""quoted"" owl, big",A\r\n"two\r\nlines",B\r\n', ['a "quoted" owl, big', "two\r\nlines"]),
        ("csv", 'a 5" pipe,A\n\n,\nlast,B', ['a 5" pipe', "last"]),
        ("csv", '"a, b" ,A\n', ["a, b"]),
        ("csv", "a,A,\nb,B,,\n", ["a", "b"]),
        ("csv", "a,A\rb,B", ["a", "b"]),
        ("csv", "a,A\n\ufeffb,B", ["a", "b"]),
        ("csv", 'a,"A\nmore"\nb,B', ["a", "b"]),
        ("tsv", '"a red circle\tA\nb\tB\n', ['"a red circle', "b"]),
        ("tsv", '"open\tA\nb\tB\nclose"\tC\n', ['"open', "b", 'close"']),
        ("tsv", '"whole"\tA\na "b" c\tB\n"say ""hi"""\tC\n', ["whole", 'a "b" c', 'say "hi"']),
        ("tsv", '"with\ttab"\tA\n"two\nlines"\tB\n', ["with\ttab", "two\nlines"]),
        ("tsv", 'one\t"\n"\t"\n', ["one", '"']),
    ],
)
def test_cells(kind: str, text: str, expected: list[str], tmp_path: Path) -> None:
    header = "prompt,category\n" if kind == "csv" else "prompt\tcategory\n"
    prompts, warned = told(tmp_path, kind, header + text)
    assert (prompts, warned) == (expected, [])


@pytest.mark.parametrize(
    ("text", "line", "others"),
    [
        ('"a red circle,A\na blue square,B\n', 2, ["a blue square"]),
        ('x,A\n"a red circle,A\n"a, b",B\nc,C\n', 3, ["x", "a, b", "c"]),
        ('x,"open\n"a, b",B\nc,C\n', 2, ["a, b", "c"]),
        ('"said" he,A\nb,B\n', 2, ["b"]),
        ('"two\nlines",A\n"said" he,A\nb,B\n', 4, ["two\nlines", "b"]),
    ],
)
def test_an_open_quote_names_its_line(text: str, line: int, others: list[str], tmp_path: Path) -> None:
    for kind, delimiter in (("csv", ","), ("csv", ";"), ("tsv", ",")):
        file = tmp_path / f"quotes.{kind}"
        file.write_text("prompt,category\n".replace(",", delimiter) + text.replace(",", delimiter))
        assert f"quotes.{kind}, line {line}: a quote opens a cell here" in refused(file)
        found = collect([file], skip_bad=True)
        assert found.prompts == [other.replace(",", delimiter) for other in others] and len(found.bad) == 1


def test_rows_with_other_numbers_of_cells_are_told(tmp_path: Path) -> None:
    for kind, delimiter in (("csv", ","), ("tsv", "\t"), ("csv", ";")):
        rows = "prompt,seed\na\nb,2\nc\n".replace(",", delimiter)
        prompts, (warning,) = told(tmp_path, kind, rows)
        assert prompts == ["a", "b", "c"] and "line 2: holds 1 of 2 cells" in warning
        (tmp_path / f"f.{kind}").write_text("prompt,seed\na,1,x\n".replace(",", delimiter))
        assert "line 2: 3 cells under 2 columns" in refused(tmp_path / f"f.{kind}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep={}\r\n", '"sep={}"\r\n'])
def test_delimiters_and_encodings_of_excel(encoding: str, delimiter: str, first: str, tmp_path: Path) -> None:
    text = first.format(delimiter) + f"Nr{delimiter}Prompt{delimiter}Seed\r\n1{delimiter}a café{delimiter}7\r\n"
    for kind in ("csv", "tsv"):
        (prompt,), warned = told(tmp_path, kind, text.encode(encoding))
        assert (prompt, prompt.seed, prompt.metadata, warned) == ("a café", 7, {"Nr": "1"}, [])


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "jsonl", "json"])
def test_other_encodings_are_told_with_the_remedy(kind: str, tmp_path: Path) -> None:
    text = {
        "csv": "prompt\na\ncafé\n",
        "tsv": "prompt\na\ncafé\n",
        "txt": "b\na\ncafé\n",
        "jsonl": '"b"\n"a"\n"café"\n',
        "json": '["b",\n"a",\n"café"]',
    }[kind]
    file = tmp_path / f"f.{kind}"
    file.write_bytes(text.encode("cp1252"))
    message = refused(file)
    assert "line 3 cannot be read: byte 0xe9 is not UTF-8" in message and "iconv -f cp1252" in message
    if kind != "json":
        assert collect([file], skip_bad=True).prompts[-1] == "a"
    file.write_bytes(text.encode("utf-16-le"))
    assert "UTF-16 without a byte order mark" in refused(file)
    file.write_bytes(text.encode("utf-16") + b"\0")
    assert "UTF-16-LE" in refused(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,prompt\na,b\n", "line 1: two columns are named 'prompt'"),
        ("prompt,note,note\na,b,c\n", "two columns are named 'note'"),
        ("a;b;c\n1;2;3\n", "line 1: its columns are a, b, c, expected one named 'prompt'"),
        ("\n\n# by hand\nprompt\na\n", "line 3: its columns are # by hand"),
        ("prompt\n", "holds no prompt"),
        ("", "its columns are none"),
        ('"prompt\na\n', "line 1: a quote opens a cell here, and it is never closed"),
        ("prompt;guidance\na;7,5\n", "line 2: got guidance '7,5', expected a number, as in 7.5"),
        ("prompt,guidance\na,1_0\n", "got guidance '1_0'"),
        ("prompt,guidance\na,inf\n", "got guidance 'inf'"),
        ("prompt,steps\na,1e999\n", "got steps '1e999'"),
        ("prompt,seed\na," + "9" * 5000, "got seed '9999"),
        ("prompt,size\na,512\n", "size '512'"),
    ],
)
def test_tables_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(text)
    assert message in refused(tmp_path / "f.csv")


def test_a_column_without_a_name_is_called_by_its_number(tmp_path: Path) -> None:
    (prompt,), _ = told(tmp_path, "csv", ',prompt,size\n0,a,"[8, 16]"\n')
    assert (prompt.metadata, prompt.settings) == ({"column 1": "0"}, {"width": 8, "height": 16})


# ---- JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"0": {"prompt": "a", "id": "own"}, "x": {"prompt": "b"}, "y": "c"}, [("a", "own"), ("b", "x"), ("c", "y")]),
        ({"x": "a", "y": "b"}, [("a", "x"), ("b", "y")]),
        ({"prompts": ["a", "b"]}, [("a", None), ("b", None)]),
        ({"Prompts": [{"Prompt": "a", "id": "x"}]}, [("a", "x")]),
        ({"prompts": {"x": "a", "y": {"text": "b"}}}, [("a", "x"), ("b", "y")]),
        ({"prompt": ["a", "b"], "id": ["x", "y"]}, [("a", "x"), ("b", "y")]),
        ({"prompt": {"0": "a", "1": "b"}, "seed": {"0": 1, "1": None}}, [("a", "0"), ("b", "1")]),
        ({"data": [{"caption": "a", "id": 5}]}, [("a", "5")]),
        (
            {"columns": ["prompt", "id"], "index": ["r", "s"], "data": [["a", "x"], ["b", "y"]]},
            [("a", "x"), ("b", "y")],
        ),
        ({"0": {"prompt": "a", "seed": 1}, "1": {"prompt": "b", "seed": 2}}, [("a", "0"), ("b", "1")]),
    ],
)
def test_documents(document: Any, expected: list[tuple[str, str | None]], tmp_path: Path) -> None:
    prompts, warned = told(tmp_path, "json", json.dumps(document))
    found = [(str(prompt), prompt.id) for prompt in prompts]
    assert [(text, identity) for text, identity in found] == [
        (text, identity or prompt.id) for (text, identity), prompt in zip(expected, prompts, strict=True)
    ]
    assert warned == []


def test_what_stands_beside_the_prompts_is_told(tmp_path: Path) -> None:
    document = {"info": {}, "images": [{"id": 1}], "annotations": [{"id": 5, "image_id": 1, "caption": "a"}]}
    (prompt,), (warning,) = told(tmp_path, "json", json.dumps(document))
    assert (prompt, prompt.id, prompt.metadata) == ("a", "5", {"image_id": 1})
    assert "from 'annotations'; other keys are ignored: info, images" in warning


def test_json_lines_that_are_named_json(tmp_path: Path) -> None:
    assert told(tmp_path, "json", '{"prompt": "a"}\n{"prompt": "b"}\n') == (["a", "b"], [])
    assert told(tmp_path, "ndjson", '\ufeff{"prompt": "a"}\r\n\ufeff{"prompt": "b"}\r\n') == (["a", "b"], [])


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("jsonl", '{"prompt": "a", "prompt": "b"}', "line 1: an object has the key 'prompt' twice"),
        ("jsonl", '{"prompt": "a", "x": {"k": 1, "k": 2}}', "the key 'k' twice"),
        ("jsonl", '{"prompt": "a"},', "line 1: not JSON (Extra data"),
        ("jsonl", '{\n "prompt": "a"\n}', "give a file with one JSON document the suffix .json"),
        ("jsonl", '[{"prompt": "a"}]', "line 1: got a list, expected text or an object"),
        ("jsonl", "null", "got null"),
        ("jsonl", '{"prompt": ["a", "b"]}', "got a list under 'prompt', expected the text of one prompt"),
        ("jsonl", '{"prompt": 3}', "got a number under 'prompt'"),
        ("jsonl", '{"prompt": "a", "seed": "7"}', "got seed '7'"),
        ("jsonl", '{"prompt": "a", "x": ' + "[" * 70 + "]" * 70 + "}", "deeper than 64"),
        ("jsonl", '{"prompt": "a", "seed": ' + "9" * 4000 + "}", "got seed 9999"),
        ("jsonl", '{"prompt": "a", "steps": ' + "9" * 4000 + "}", "steps=9999"),
        ("jsonl", '{"prompt": "a", "guidance": ' + "9" * 4000 + "}", "got guidance 9999"),
        ("jsonl", '{"prompt": "a", "x": "\\ud800"}', "is not Unicode"),
        ("jsonl", '{"prompt": "a", "\\ud800": 1}', "is not Unicode"),
        ("jsonl", '{"prompt": "a", "scheduler": "Euler \\ud800"}', "is not Unicode"),
        ("json", '["a",\n]', "line 2: not JSON"),
        ("json", '{"a": 1, "b": [1]}', "got an object with the keys a, b, expected a list"),
        ("json", '[["a", 1], ["b", 2]]', "entry 1: got a list, expected text or an object"),
        (
            "json",
            '{"columns": ["prompt", "seed"], "index": ["r"], "data": [["a"]]}',
            "do not fit 'columns'; write it by",
        ),
        ("json", '{"columns": [0, 1], "index": ["r"], "data": [["a", 1]]}', "are not distinct names; name them, or"),
        ("json", '{"columns": ["x", "seed"], "data": [["a", 1]]}', "entry 1: has no text: its keys are x, seed"),
        ("jsonl", '{"prompt": "a", "steps": 2.' + "0" * 30 + "1}", "got steps 2.000000"),
        ("jsonl", '{"prompt": "a", "steps": 1e-99999999999999999999}', "steps=0"),
        ("json", "{}", "the keys none"),
        ("json", "3", "got a number"),
        ("xlsx", "x", "save the sheet as CSV"),
        ("csv.gz", "x", "unpack it"),
    ],
)
def test_documents_that_are_refused(kind: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / f"f.{kind}").write_text(text)
    found = refused(tmp_path / f"f.{kind}")
    assert message in found and len(found) < 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", "prompt,seed\na," + "9" * 200_000),
        ("csv", "prompt,guidance\na," + "9" * 200_000 + "x"),
        ("csv", "prompt\n" + '"a""' * 100_000),
        ("csv", "prompt,n\n" + '"a\n' * 10_000),
        ("tsv", "prompt\tn\n" + '"a\tb\n' * 10_000),
        ("csv", ",".join(f"c{n}" for n in range(20_000)) + ",prompt,prompt\na"),
        ("jsonl", "{" + ",".join(f'"k{n}":1' for n in range(50_000)) + ',"a":1,"a":2}'),
        ("txt", "{" + "|" * 200_000),
        ("txt", "/__a" * 50_000),
        ("txt", "a --" * 50_000),
        ("txt", "--prompt " + "a " * 100_000 + "'"),
    ],
)
def test_the_time_to_read_grows_with_the_length_and_not_with_its_square(kind: str, text: str, tmp_path: Path) -> None:
    (tmp_path / f"f.{kind}").write_text(text)
    begun = time.process_time()
    try:
        said(tmp_path / f"f.{kind}", skip_bad=True)
    except SteerError as error:
        assert len(str(error)) < 1000
    assert time.process_time() - begun < 5


def test_options_given_as_text_hold_no_nan(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps({"prompt": "a", "options": '{"fk": {"lambda": NaN, "at": [2]}}'}))
    (prompt,) = read_prompts(tmp_path / "f.jsonl")
    assert prompt.options == {"fk": {"at": [2]}}


# ---- Parquet -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bytes_are_left_in_the_file(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": "a",
            "photo": b"\0" * 1000,
            "image": {"bytes": b"\0" * 1000, "path": "a.png"},
            "all": [b"x"],
            "deep": {"inner": {"bytes": b"x", "kept": 1}},
        }
    ]
    found, (warning,) = said(write(tmp_path, "parquet", rows))
    assert found.prompts[0].metadata == {"image": {"path": "a.png"}, "deep": {"inner": {"kept": 1}}}
    assert warning.endswith("columns of bytes are left out: photo, image.bytes, all, deep.inner.bytes")


def test_columns_of_other_types(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "prompt": pyarrow.array([b"caf\xc3\xa9"], pyarrow.binary()),
            "Seed": ["7.0"],
            "at": pyarrow.array([1], pyarrow.timestamp("ns")),
            "words": pyarrow.array(["x"]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    (prompt,) = read_prompts(tmp_path / "p.parquet")
    assert (prompt, prompt.seed) == ("café", 7)
    assert prompt.metadata == {"at": "1970-01-01 00:00:00.000000001", "words": "x"}


@pytest.mark.slow
def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    file = write(tmp_path, "parquet", [{"prompt": f"prompt {n}", "n": n} for n in range(2000)])
    data = file.read_bytes()
    for place in range(4, len(data), len(data) // 40):
        file.write_bytes(data[:place] + b"\xff\xfe\xfd" + data[place + 3 :])
        try:
            assert len(collect([file], skip_bad=True).prompts) > 0
        except SteerError as error:
            assert "\n" not in str(error)


# ---- lines of text, folders, names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("positive: a\nnegative: b\n---\n", 1, "ComfyUI Inspire-Pack"),
        ("a\nnegative: b\n", 2, "ComfyUI Inspire-Pack"),
        ("a\n---\nb\n", 2, "a separator"),
        ("a\n# later\nb\n", 2, "a comment"),
        ("// first\nb\n", 1, "a comment"),
        ("a red circle --ar 16:9 --v 6\n", 1, "Midjourney"),
        ("a red circle --seed 7\n", 1, "flags behind it"),
        ("a\nSteps: 20, Sampler: Euler a, CFG scale: 7\n", 2, "A1111's parameters"),
        ("a {red|blue} circle\n", 1, "Dynamic Prompts"),
        ("a __color__ circle\n", 1, "Dynamic Prompts"),
        ("prompt\tseed\na\t1\n", 1, "tab-separated"),
        ("prompt,seed\na,1\n", 1, "CSV"),
        ('{"prompt": "a"}\n', 1, "JSON lines"),
        ("[\n", 1, "JSON"),
        ("1. a\n2. b\n", 1, "a list"),
    ],
)
def test_other_formats_are_told_once(text: str, line: int, what: str, tmp_path: Path) -> None:
    prompts, warned = told(tmp_path, "txt", text)
    assert prompts == [part for part in text.split("\n") if part]
    (warning,) = warned
    assert f"line {line}: " in warning and what in warning


@pytest.mark.parametrize(
    "text",
    [
        "#1 fan of owls",
        "a red circle -- wide",
        "masterpiece, text, 1girl\nan owl",
        "3. FC\nan owl",
        "a (red:1.3) {x}",
        "50% off: a sign",
        "an owl_with_feathers",
        "a positive: attitude",
        "https://x.org//a",
    ],
)
def test_prompts_that_only_look_odd(text: str, tmp_path: Path) -> None:
    assert told(tmp_path, "txt", text) == (text.split("\n"), [])


def test_a_folder_of_texts(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    assert "holds no .txt file" in refused(folder)
    for name, text in (
        ("b.txt", "\ufefftwo\nlines\n"),
        ("a.txt", "an owl\n"),
        (".hidden.txt", "x"),
        ("a.png", "x"),
        ("flags.TXT", '--prompt "x" --seed 7'),
    ):
        (folder / name).write_text(text)
    (folder / "sub.txt").mkdir()
    found = read_prompts(folder)
    assert [(str(p), p.id, p.seed) for p in found] == [
        ("an owl", "a", None),
        ("two\nlines", "b", None),
        ("x", "flags", 7),
    ]
    (folder / "empty.txt").write_text(" \n")
    assert "empty.txt: has no text" in refused(folder)
    assert "no columns" in refused(folder, column="x")


def test_flags_that_a1111_alone_knows(tmp_path: Path) -> None:
    text = '--prompt a --outpath_grids x --tiling true --restore_faces false\n--prompt b --tiling true --styles "y"\n'
    prompts, warned = told(tmp_path, "txt", text)
    assert [str(prompt) for prompt in prompts] == ["a", "b"]
    assert [" ".join(warning.split()[2:7]) for warning in warned] == [
        "1: A1111's --outpath_grids is ignored;",
        "1: A1111's --tiling is ignored;",
        "2: A1111's --styles is ignored;",
    ]


def test_the_query_of_a_url_is_no_part_of_its_suffix(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl?download=true"
    file.write_text('{"prompt": "a"}\n')
    assert read_prompts(file) == ["a"]
    assert read_prompts(f"file://{file}") == ["a"]
    import fsspec

    with fsspec.open("memory://p.csv?token=x.txt", "w") as remote:
        remote.write("prompt,seed\na,7\n")
    assert read_prompts("memory://p.csv?token=x.txt")[0].seed == 7


# ---- the inputs of the report ------------------------------------------------------------------------


def test_the_inputs_as_they_were_reported() -> None:
    def facts(name: str, **keywords: Any) -> list[tuple[Any, ...]]:
        return [(str(p), p.seed, p.settings) for p in said(DATA / name, **keywords)[0].prompts]

    assert "open_quote.csv, line 2: a quote opens" in refused(DATA / "open_quote.csv")
    assert facts("pandas.csv") == [("a red circle", 7, {"steps": 2}), ("a blue square", None, {})]
    assert facts("minus1.csv") == [("a red circle", None, {})]
    assert "% 4294967296" in refused(DATA / "big.jsonl")
    assert facts("big.jsonl", wrap_seeds=True) == [("a red circle", 4096709502, {})]
    assert read_prompts(DATA / "nan.jsonl")[0].metadata == {"score": None, "aesthetic": None}
    (prompt,) = read_prompts(DATA / "drawbench.csv")
    assert (prompt, prompt.category) == ("A red colored car.", "Colors")
    assert facts("semi.csv") == [("a red circle", 7, {})]
    assert [prompt.id for prompt in read_prompts(DATA / "dict.json")] == ["0", "1"]
    found, (warning,) = said(DATA / "inspire.txt")
    assert len(found.prompts) == 5 and "inspire.txt, line 1: 'positive: a red circle' looks like" in warning
    assert facts("a1111/heun.txt") == [("a red circle", None, {"scheduler": "heun"})]
    for name in ("faces", "out"):
        found, (warning,) = said(DATA / "a1111" / f"{name}.txt")
        assert found.prompts == ["a red circle"] and "is ignored" in warning


def test_what_a_render_keeps_reads_back_the_same() -> None:
    for name in ("pandas.csv", "nan.jsonl", "drawbench.csv", "dict.json", "inspire.txt"):
        prompts = said(DATA / name)[0].prompts
        lines = "".join(json.dumps(as_row(prompt), allow_nan=False) + "\n" for prompt in prompts)
        again = parse_prompts(lines.encode(), name="prompts.jsonl", kind="jsonl")
        assert [as_row(prompt) for prompt in again] == [as_row(prompt) for prompt in prompts]
