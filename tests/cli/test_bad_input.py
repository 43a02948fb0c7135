"""Every mistake of a user: exit code 2, one line that says what to do, nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.commands import Steer

FK = ["-p", "fk", "-r", "./rewards.py:brightness"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generat"], "did you mean 'generate'"),
        (["generate", "--stps", "3"], "--steps"),
        (["plugins", "show", "fkk"], "did you mean 'fk'"),
        (["plugins", "list"], "No such command"),
        (["replay", "nothere.png"], "does not exist"),
        (["replay", "rewards.py"], "cannot be read as PNG"),
        (["--log", "rewards.py/log", "plugins"], "--log"),
    ],
)
def test_commands(steer: Steer, arguments: list[str], said: str) -> None:
    assert said in steer(*arguments).error()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "fkk"], "unknown method 'fkk' — did you mean 'fk'"),
        (["-p", "fk", "-r", "nothere"], "unknown reward 'nothere'"),
        (["-r", "fk"], "give it as --plugin"),
        (["-p", "./nothere.py"], "does not exist"),
        (["-r", "./rewards.py:brightnes"], "did you mean 'brightness'"),
        (["-r", "./rewards.py"], "name the function"),
        (["-r", ""], "expected NAME"),
        ([*FK, "-o", "fk.lambda=-1"], "fk.lambda: got '-1', expected float >= 0"),
        ([*FK, "-o", "fk.lambda=nan"], "fk.lambda"),
        ([*FK, "-o", "fk.lamda=1"], "did you mean 'lambda'"),
        ([*FK, "-o", "fklambda=1"], "PLUGIN.OPTION=VALUE"),
        ([*FK, "-n", "0"], "particles=0"),
        ([*FK, "-n", "-1"], "particles=-1"),
        ([*FK, "-n", "1000000000"], "particles=1000000000"),
        (["--guidance", "nan"], "guidance_scale=nan"),
        (["--eta", "2"], "eta=2.0"),
        (["--negative", "\udc80a"], "negative '\\udc80a' is not Unicode"),
        (["--out", "\udc80"], "out '\\udc80' is not Unicode"),
        (["--steps", "0"], "steps=0"),
        (["--steps", "many"], "not a valid integer"),
        (["--size", "512"], "WIDTHxHEIGHT"),
        (["--out", "rewards.py"], "is a file"),
        (["--out", "rewards.py/below"], "is a file"),
        (["--out", "/proc/nothere/x"], "cannot be written to"),
        (["--config", "nothere.toml"], "does not exist"),
    ],
)
def test_found_before_the_model_is_loaded(steer: Steer, place: Path, arguments: list[str], said: str) -> None:
    # a model that is not there would be complained about first, were it looked at
    out = [] if "--out" in arguments else ["--out", "out"]
    assert said in steer("generate", "a red circle", "-m", "./nothere", *out, *arguments).error()
    assert sorted(p.name for p in place.iterdir()) == ["rewards.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "fk"], "needs a reward"),
        ([*FK, "-n", "1"], "at least 2 particles"),
        ([*FK, "--eta", "0"], "set --eta 1"),
        ([*FK, *FK], "named twice"),
        ([*FK, "-o", "clip.x=1"], "not active"),
        (["--scheduler", "eulr"], "did you mean 'euler'"),
        (["--size", "15x16"], "such as 16"),
        (["--size", "65536x65536", "-n", "60000"], "GB"),
        (["--seed", "4294967296"], "0..4294967295"),
        (["--run-seed", "-1"], "0..4294967295"),
        (["--steps", "5000"], "training timesteps"),
        (["--choose", "best"], "needs a reward"),
        (["--device", "abacus"], "unknown device"),
        (["--device", "meta"], "cannot compute"),
        (["--dtype", "fp8"], "expected fp32"),
        (
            [*FK[2:], "-r", "./rewards.py:nan"],
            "'./rewards.py:nan' returned nan for prompt 'a red circle' (on",
        ),
        (["-p", "fk", "-r", "./rewards.py:nan", "--steps", "4"], "(at step 1)"),
        (["-r", "./rewards.py:wrong_length"], "expected a tensor of shape (1,)"),
    ],
)
def test_found_with_the_model(steer: Steer, tiny: Path, place: Path, arguments: list[str], said: str) -> None:
    steps = [] if "--steps" in arguments else ["--steps", "2"]
    assert said in steer("generate", "a red circle", "-m", tiny, "--out", "out", *steps, *arguments).error()
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("empty.txt", " \n\n", "holds no prompt"),
        ("bad.jsonl", '{"prompt": "a"}\n\n{oops\n', "bad.jsonl, line 3: not JSON"),
        ("bad.json", '[\n"a",\n]', "bad.json, line 3"),
        ("deep.jsonl", "[" * 100_000, "line 1"),
        (
            "same.jsonl",
            '{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}',
            "line 1 and same.jsonl, line 2 both have the id 'x'",
        ),
        ("blank.jsonl", '{"prompt": " "}', "line 1: has no text"),
        ("seed.jsonl", '{"prompt": "a", "seed": -2}', "line 1: got seed -2"),
        ("surrogate.jsonl", '{"prompt": "a \\ud800"}', "not Unicode"),
        ("prompts.md", "a", "expected .txt"),
    ],
)
def test_prompt_files(steer: Steer, place: Path, name: str, text: str, said: str) -> None:
    (place / name).write_text(text)
    assert said in steer("generate", "-f", name).error()


def test_prompts_that_are_none(steer: Steer, place: Path) -> None:
    (place / "latin.txt").write_bytes("é".encode("latin-1"))
    assert "UTF-8" in steer("generate", "-f", "latin.txt").error()
    assert "does not exist" in steer("generate", "-f", "nothere.txt").error()
    assert "blank" in steer("generate", " ").error()
    assert "no prompt" in steer("generate", "-f", "-").error()
    assert "UTF-8" in steer("generate", "-", stdin=b"\xff").error()
    assert "one of the two" in steer("generate", "a", "-f", "b.txt").error()
    assert "not Unicode" in steer("generate", "a \udcff").error()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partcles = 3", "did you mean 'particles'"),
        ('particles = "3"', "expected int"),
        ("particles =", "not TOML"),
        ("plugin = [3]", "list of texts"),
        ("[options]\nfk = 3", "[options.fk]"),
    ],
)
def test_run_files(steer: Steer, place: Path, text: str, said: str) -> None:
    (place / "run.toml").write_text(text)
    assert said in steer("generate", "a", "--config", "run.toml").error()


def test_models(steer: Steer, tiny: Path, place: Path) -> None:
    def error(model: object) -> str:
        return steer("generate", "a", "-m", model, "--out", "out").error()

    assert "did you mean 'shapes'" in error("shape")
    (place / "folder").mkdir()
    assert "no model_index.json" in error("folder")
    for text, said in (
        ("[1]", "a JSON list"),
        ("{", "cannot be read"),
        ('{"_class_name": "Foo"}', "'Foo' is no pipeline class of diffusers"),
    ):
        (place / "folder" / "model_index.json").write_text(text)
        assert said in error("folder")
    shutil.copytree(tiny, place / "cut")
    (weights,) = (place / "cut" / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert "damaged" in error("cut")
    assert not (place / "out").exists()


def test_a_hub_id_while_offline_is_quick_and_says_so(steer: Steer) -> None:
    assert "offline" in steer("generate", "a", "-m", "org/name").error()


@pytest.mark.slow
def test_a_reward_that_raises_leaves_its_traceback_in_the_log(steer: Steer, tiny: Path, place: Path) -> None:
    arguments = ["-p", "fk", "-r", "./rewards.py:raises", "--steps", "4", "--log", "log.txt"]
    line = steer("generate", "a red circle", "-m", tiny, *arguments).error()
    assert all(part in line for part in ("'./rewards.py:raises'", "KeyError", "at step 1", "'a red circle'", "--log"))
    log = (place / "log.txt").read_text()
    assert "def raises(samples, prompts)" in log and "Traceback" in log


@pytest.mark.slow
def test_too_many_tokens_warn_with_what_was_cut(steer: Steer, tiny: Path) -> None:
    done = steer("generate", "a red circle " * 8 + "square", "-m", tiny, "--steps", "1", "--out", "out", "--json")
    assert done.code == 0
    (line,) = (line for line in done.err.splitlines() if "warning" in line)
    assert "24" in line or "25" in line
    assert line.rstrip("'").endswith("square")
    json.loads(done.out)


@pytest.mark.parametrize(
    "text",
    [
        "steps = " + "9" * 5000,
        "reward = " + "[" * 2000,
        'plugin = "./' + "x" * 5000 + '.py"',
        'reward = "~no-one/a.py:x"',
    ],
    ids=["digits", "brackets", "long", "home"],
)
def test_run_files_that_break_readers(steer: Steer, place: Path, text: str) -> None:
    (place / "run.toml").write_text(text)
    assert len(steer("generate", "a", "--config", "run.toml").error()) < 1000


@pytest.mark.parametrize("name", ["x" * 5000, "~no-one/model", "a\0b"])
def test_models_that_no_file_can_be(steer: Steer, place: Path, name: str) -> None:
    assert len(steer("generate", "a", "-m", name).error()) < 1000
    (place / "steer.toml").write_text("model = " + json.dumps(name))
    assert all(character.isprintable() or character == "\n" for character in steer("generate", "a").err)


def test_a_long_message_keeps_its_end(steer: Steer) -> None:
    message = steer("generate", "a", "-p", "(" * 5000).error()
    assert len(message) < 1000 and message.startswith("unknown method '(((") and message.endswith(")")


def test_more_replicates_than_anybody_waits_for(steer: Steer, place: Path) -> None:
    (place / "p.txt").write_text("a\n")
    assert "expected 1..65536" in steer("render", "p.txt", "--replicates", 10**9).error()
