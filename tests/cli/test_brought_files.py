"""Prompt files of other programs, through every command that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from support.commands import Steer

DATA = Path(__file__).parents[1] / "prompts" / "data"
STRICT: dict[str, Any] = {"parse_constant": pytest.fail}
COMMANDS = {
    "generate": ("generate", "-f"),
    "render": ("render",),
    "compare": ("compare", "-r", "./rewards.py:brightness", "--judge", "./rewards.py:raises"),
}


def call(command: str, file: Path | str, *more: object) -> list[object]:
    return [*COMMANDS[command], file, "--out", "out", *more]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open_quote.csv", "open_quote.csv, line 2: a quote opens a cell here, and it is never closed"),
        ("big.jsonl", "write 4096709502, which is 156680208700286 % 4294967296"),
    ],
)
def test_every_command_refuses_the_same(steer: Steer, place: Path, command: str, name: str, said: str) -> None:
    assert said in steer(*call(command, DATA / name, "-m", "./nothere")).error()
    assert not (place / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_column(steer: Steer, place: Path, command: str) -> None:
    (place / "p.csv").write_text("Words,seed\na red circle,156680208700286\n")
    arguments = call(command, "p.csv", "-m", "./nothere")
    assert "p.csv, line 1: its columns are Words, seed, expected one named 'prompt'" in steer(*arguments).error()
    assert "write 4096709502" in steer(*arguments, "--column", "words").error()
    later = "too few" if command == "compare" else "'./nothere'"  # what comes after the file was read
    assert later in steer(*arguments, "--column", "words", "--wrap-seeds").err


def test_a_column_is_one_of_a_file(steer: Steer) -> None:
    assert "name the file by --file" in steer("generate", "a", "--column", "x", "-m", "./nothere").error()
    done = steer("generate", "-", "--column", "x", "-m", "./nothere", stdin='\ufeff{"x": "a"}\n')
    assert "./nothere" in done.error()


@pytest.mark.slow
def test_seeds_mean_the_same_for_the_whole_command(steer: Steer, tiny: Path, place: Path) -> None:
    (place / "p.txt").write_text("a red circle")
    plan = ["render", "p.txt", "-m", tiny, "--out", "out", "--dry-run"]
    for name in ("seed", "run_seed"):
        flag = f"--{name.replace('_', '-')}"
        assert "write 1, which is 4294967297 % 4294967296, or add --wrap-seeds" in steer(*plan, flag, 2**32 + 1).error()
        assert steer(*plan, flag, 2**32 + 1, "--wrap-seeds").code == 0
        (place / "run.toml").write_text(f"{name} = {2**32 + 1}\nwrap_seeds = true\nsteps = 2.0\nguidance = 1")
        assert steer(*plan, "--config", "run.toml").code == 0
    for seed in ("-1", "-1.0"):
        (place / "run.toml").write_text(f"seed = {seed}")
        assert steer(*plan, "--config", "run.toml").code == 0
    assert steer(*plan, "--seed", "-1").code == 0
    assert "expected an integer in 0..4294967295" in steer(*plan, "--seed", "-2").error()
    (place / "run.toml").write_text("steps = 2.5")
    assert "steps is 2.5, expected int" in steer(*plan, "--config", "run.toml").error()
    Image.new("RGB", (8, 8)).save(place / "a.png")
    assert "--wrap-seeds" not in steer("segment", "a.png", "--seed", 2**32).error()


@pytest.mark.slow
def test_infinite_numbers_reach_no_output(steer: Steer, tiny: Path, place: Path) -> None:
    arguments = ["-m", tiny, "--steps", "1", "--guidance", "1"]
    for command in ("generate", "render"):
        done = steer(*call(command, DATA / "nan.jsonl", *arguments, "--json"))
        assert done.code == 0 and done.err.count("infinite") == 1, done.err
        for line in [done.out] if command == "generate" else done.out.splitlines():
            json.loads(line, **STRICT)
        for file in (place / "out").rglob("*.json*"):
            for text in [file.read_text()] if file.suffix == ".json" else file.read_text().splitlines():
                json.loads(text, **STRICT)
        pictures = [file for file in (place / "out").rglob("*.png") if "steer" in Image.open(file).text]
        assert len(pictures) == 2
        for file in pictures:
            recipe = json.loads(Image.open(file).text["steer"], **STRICT)
            assert set(recipe["prompt"]["metadata"]) <= {"score", "aesthetic"}
        (place / "out").rename(place / command)
    metadata = json.loads((place / "render" / "prompts.jsonl").read_text().splitlines()[0])
    assert (metadata["score"], metadata["aesthetic"]) == (None, None)


def test_a_render_goes_on_without_the_column(steer: Steer, tiny: Path, place: Path) -> None:
    (place / "p.csv").write_text("prompt,Words,seed\nnot this,a red circle,156680208700286\n")
    asked = ["render", "p.csv", "--column", "Words", "--wrap-seeds", "-m", tiny, "--steps", "1", "--guidance", "1"]
    assert steer(*asked, "--out", "out").code == 0
    for again in (["render", "--config", "out/run.toml"], [*asked, "--out", "out"]):
        done = steer(*again, "--dry-run", "--json")
        assert json.loads(done.out)["todo"] == 0, done
    assert "column" not in (place / "out" / "run.toml").read_text().split("[versions]")[0].replace("prompts", "")
    (row,) = map(json.loads, (place / "out" / "metadata.jsonl").read_text().splitlines())
    assert (row["prompt"], row["seed"]) == ("a red circle", 4096709502)


@pytest.mark.slow
def test_a_column_of_images_reaches_neither_the_plan_nor_the_folder(steer: Steer, tiny: Path, place: Path) -> None:
    table = pyarrow.table({"caption": ["a red circle"], "image": [{"bytes": b"x" * 2_000_000, "path": "a.png"}]})
    pyarrow.parquet.write_table(table, place / "p.parquet")
    render = ["render", "p.parquet", "-m", tiny, "--steps", "1", "--guidance", "1", "--out", "out", "--json"]
    plan, done = steer(*render, "--dry-run"), steer(*render)
    assert (plan.code, done.code) == (0, 0)
    for one in (plan, done):
        assert one.err.count("columns of bytes are left out: image.bytes") == 1
    written = sum(file.stat().st_size for file in (place / "out").rglob("*") if file.is_file())
    assert json.loads(plan.out)["bytes"] < 100_000 and written < 300_000


@pytest.mark.slow
def test_run_files_and_defaults_with_a_byte_order_mark(steer: Steer, tiny: Path, place: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (place / "p.csv").write_text("Words;seed\na café;7\n", encoding=encoding)
        (place / "run.toml").write_text('file = "p.csv"\ncolumn = "Words"\nsteps = 1\nguidance = 1\n', encoding)
        (place / "steer.toml").write_text(f'model = "{tiny}"\n', encoding)
        done = steer("generate", "--config", "run.toml", "--out", encoding, "--json")
        assert [item["prompt"] for item in json.loads(done.out)["items"]] == ["a café"], done.err
    (place / "run.toml").write_bytes("# é\nsteps = 1\n".encode("cp1252"))
    assert "config file run.toml, line 1 cannot be read: byte 0xe9" in steer("generate", "--config", "run.toml").error()
