"""``steer compare`` as typed: equal budgets, pairing, intervals, going on, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

TEXTS = ["a red circle", "a blue square", "the photo", "a circle", "a photo of the square", "<b>the</b> | blue & red"]

JUDGES = """
from steer import SteerError

def red(samples, prompts): return samples[:, 0].mean(dim=(1, 2))

def reads_no_photo(samples, prompts):
    if "the photo" in prompts: raise SteerError("cannot read 'the photo'")
    return red(samples, prompts)
"""


@pytest.fixture
def command(steer, tiny: Path, place: Path):
    rows = [{"prompt": text, "category": "one" if i < 3 else "other"} for i, text in enumerate(TEXTS)]
    (place / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "judge.py").write_text(JUDGES)

    def run(*arguments: str, reward: str = "./rewards.py:brightness", judge: str = "./judge.py:red"):
        return steer(
            "compare", "p.jsonl", "-m", str(tiny), "-r", reward, "--judge", judge, "--steps", "2", "--guidance", "1",
            "--chunk", "8", *arguments,
        )  # fmt: skip

    return run


@pytest.mark.slow  # six cells of twelve drawings, and figures
def test_a_comparison_from_budget_to_report(command, place: Path) -> None:
    arguments = [
        "--method", "plain", "--method", "best-of-n", "--method", "fk:lambda=50", "--budget", "nfe=8,16", "--out", "c",
        "--success", "0.5", "--replicates", "2", "-o", "fk.every=0.5",
    ]  # fmt: skip
    done = command(*arguments, "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    lines = {(line["label"], line["budget"]): line for line in summary["lines"]}
    assert set(lines) == {(name, budget) for name in ("plain", "best-of-n", "fk") for budget in ("nfe=8", "nfe=16")}
    for (name, budget), line in lines.items():
        assert line["cost"]["nfe"] == int(budget.partition("=")[2])  # all of it, and no more
        assert (line["prompts"], line["drawings"]) == (6, 12)
        assert line["chosen"]["low"] <= line["chosen"]["estimate"] <= line["chosen"]["high"]
        assert set(line["categories"]) == {"one", "other"}
        assert (line["against"] is None) == (name == "best-of-n")

    # paired: best-of-n chooses among the very samples that plain draws, by the reward
    rows = {path.name.partition("=")[0].partition("-nfe")[0]: [json.loads(t) for t in path.read_text().splitlines()]
            for path in (place / "c" / "cells").glob("*nfe=8*")}  # fmt: skip
    plain, best = (sorted(rows[next(k for k in rows if k.startswith(n))], key=lambda r: r["id"])
                   for n in ("plain", "best-of-n"))  # fmt: skip
    for one, many in zip(best, plain, strict=True):
        assert one["seed"] == many["seed"]
        assert one["reward"] == pytest.approx(max(many["rewards"]), abs=1e-2)  # plain is scored as 8-bit images
    difference = [np.mean([b["judge"][summary["judge"]] - np.mean(a["judges"][summary["judge"]])])
                  for a, b in zip(plain, best, strict=True)]  # fmt: skip
    assert lines["plain", "nfe=8"]["against"]["chosen"]["estimate"] == pytest.approx(-np.mean(difference))
    predicted = {p["n"]: p for p in summary["predictions"]["plain at 8 NFE"]}
    assert predicted[4]["reward"] == pytest.approx(lines["best-of-n", "nfe=8"]["reward"]["estimate"], abs=1e-2)

    page = (place / "c" / "report.html").read_text()
    assert "<b>the" not in page and "&lt;b&gt;the" in page
    assert "src='data:image/png" in page and "http" not in page.replace("http-equiv", "")
    assert (place / "c" / "scaling-nfe.png").read_bytes().startswith(b"\x89PNG")
    assert "best-of-n" in (place / "c" / "report.md").read_text()

    # nothing is drawn again; a cell that was cut short is filled up
    cells = {path: path.read_bytes() for path in (place / "c" / "cells").iterdir()}
    cut = next(path for path in cells if path.name.startswith("fk"))
    cut.write_bytes(b"".join(cells[cut].splitlines(keepends=True)[:5]) + b'{"id": "torn')
    again = command(*arguments, "--json")
    assert again.code == 0, again.err
    redone = json.loads(again.out)
    for old, new in zip(summary["lines"], redone["lines"], strict=True):
        assert old["chosen"] == new["chosen"]
    assert all(path.read_bytes() == data for path, data in cells.items() if path != cut)
    assert "holds a comparison with another success" in command(*arguments, "--success", "0.4").error()


@pytest.mark.slow  # draws for the tuning too
def test_a_sweep_is_tuned_on_other_prompts(command, place: Path) -> None:
    texts = ["red", "blue", "the red square", "circle and square", "blue photo"]
    (place / "tune.txt").write_text("\n".join(texts))
    done = command("--method", "fk:particles=2,lambda=0|80,at=0", "--method", "plain:particles=2", "--tune", "tune.txt",
                   "--out", "t", "--json")  # fmt: skip
    assert done.code == 0, done.err
    fk, _ = json.loads(done.out)["lines"]
    assert set(fk["tuned"]) == {"fk lambda=0", "fk lambda=80"}
    assert fk["label"] == max(fk["tuned"], key=fk["tuned"].get)
    assert fk["budget"] is None and fk["cost"]["nfe"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--budget", "nfe=1", "--method", "plain"], "budget nfe=1 is too small for 'plain': 1 particle takes 2 NFE"),
        (["--budget", "nfe=1", "--method", "best-of-n"], "less than one sample takes (2)"),
        (["--judge", "./rewards.py:brightness"], "is both a reward and a judge"),
        (["--reference", "random"], "reference 'random' is not compared"),
        (["--tune", "p.jsonl"], "there are none; sweep one"),
        (["--embed", "nothing"], "unknown embedding 'nothing'"),
        (["--judge", "rewards.py:brightness"], "'rewards.py:brightness' is both a reward and a judge"),
        (["--judge", "../{here}/rewards.py:brightness@0..2:3"], "is both a reward and a judge"),
        (["--judge", "min(./judge.py:red,./rewards.py:brightness)"], "is both a reward and a judge"),
        (["--success", "nan"], "success=nan: expected a finite score"),
        (["--replicates", "999999999999"], "replicates=999999999999: expected 1..65536"),
        (["--budget", "nfe=40", "-n", "4"], "got both particles and a budget"),
        (["--length", "8"], "length is a setting of texts, and this model makes images"),
        (["--method", "fk:particles=2,particles=4"], "particles is given twice"),
        (["--judge", "./judge.py:reads_no_photo"], "cannot read 'the photo'"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_no_rows(command, place: Path, arguments, problem) -> None:
    arguments = [argument.replace("{here}", place.name) for argument in arguments]
    assert problem in command(*arguments, "--out", "bad").error()
    assert not (place / "bad" / "cells").exists()


@pytest.mark.slow  # two comparisons with their figures
def test_a_sweep_without_tuning_says_what_it_is_not_held_against(command, place: Path) -> None:
    sweep = ["--method", "plain:particles=2", "--method", "best-of-n:n=2|3", "--out", "c", "--json"]
    assert not any(line["against"] for line in json.loads(command(*sweep).out)["lines"])
    assert "Choose one of them by --reference" in (place / "c" / "report.md").read_text()
    named = json.loads(command(*sweep, "--reference", "best-of-n n=3").out)
    assert [line["against"] is not None for line in named["lines"]] == [True, True, False]


@pytest.mark.slow  # a comparison with its figures
def test_what_ended_before_its_first_row_is_begun_anew(command, place: Path) -> None:
    small = ["--method", "plain", "--budget", "nfe=1", "--out", "c"]
    assert "or lower its steps" in command(*small).error()
    done = command(*small, "--steps", "1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["lines"][0]["cost"]["nfe"] == 1
    assert "another steps" in command(*small).error()


@pytest.mark.slow
def test_damaged_files_are_measured_again_or_told(command, place: Path) -> None:
    arguments = ["--method", "plain", "--budget", "nfe=2", "--out", "c", "--json"]
    whole = json.loads(command(*arguments).out)
    (cells,) = (place / "c" / "cells").iterdir()
    rows = [json.loads(line) for line in cells.read_text().splitlines()]
    del rows[0]["judges"]
    rows[1]["chosen"] = [9]
    rows[2]["judge"] = rows[2]["judges"] = {}
    rows[3]["index"] = "x"
    rows[4] = [rows[4]]
    cells.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = json.loads(command(*arguments).out)
    assert again["lines"][0]["chosen"] == whole["lines"][0]["chosen"]
    rows = [json.loads(line) for line in cells.read_text().splitlines()][-5:]
    rows[0]["index"], rows[1]["replicate"] = rows[1]["index"], 1
    cells.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert json.loads(command(*arguments).out)["lines"][0]["chosen"] == whole["lines"][0]["chosen"]
    for name, text in (("fits.json", "[" * 2000), ("fits.json", '{"CELL": 3}'), ("compare.json", "[]")):
        kept = (place / "c" / name).read_text()
        cell = next(iter(json.loads((place / "c" / "fits.json").read_text())))
        (place / "c" / name).write_text(text.replace("CELL", cell))
        assert f"{name} is damaged" in command(*arguments).error()
        (place / "c" / name).write_text(kept)


@pytest.mark.slow  # two comparisons
def test_samples_of_other_weights_or_code_are_not_mixed_in(command, place: Path) -> None:
    arguments = ["--method", "plain", "--budget", "nfe=2", "--out", "c"]
    assert command(*arguments).code == 0
    assert command(*arguments).code == 0
    (place / "judge.py").write_text(JUDGES.replace("samples[:, 0]", "samples[:, 1]"))
    done = command(*arguments)
    problem = done.err.splitlines()[-1]
    assert (done.code, done.out) == (2, "")
    assert problem.startswith(
        "steer: error: c holds samples of 'plain @ nfe=2' that were made or scored by other weights"
    )
    assert "(./judge.py); choose another --out" in problem
    (place / "judge.py").write_text(JUDGES)
    assert command(*arguments).code == 0
    noted = json.loads((place / "c" / "sources.json").read_text())
    ((cell, sources),) = noted.items()
    assert {"unet in fp32", "vae in fp32", "./rewards.py", "./judge.py"} <= sources.keys()
    (place / "c" / "sources.json").write_text(json.dumps({cell: {**sources, "unet in fp32": "0"}}))
    assert "weights or files (unet in fp32); choose another --out" in command(*arguments, "--budget", "nfe=4").err
    (place / "c" / "sources.json").unlink()  # of a version that did not note them
    assert command(*arguments).code == 0


def test_too_few_prompts_for_an_interval(command, place: Path) -> None:
    (place / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}')
    assert "got 2 prompts, too few for an interval; expected at least 5" in command("--method", "plain").error()
    assert not (place / "outputs").exists()
    (place / "p.jsonl").write_text('{"prompt": "a"}\n' * 7 + '{"prompt": "b"}')
    assert "got 8 prompts of which 2 differ" in command("--method", "plain").error()
