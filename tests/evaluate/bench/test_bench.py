"""``steer bench`` as typed, on the embedded world: one command from prompts to figures, in parts, and again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

JUDGES = """
import os, signal, time
from pathlib import Path

def red(samples, prompts): return samples[:, 0].mean(dim=(1, 2))

def stops(samples, prompts):
    if not Path("sent").exists():
        Path("sent").touch()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    return red(samples, prompts)

def breaks(samples, prompts):
    if any(path.stat().st_size for path in Path("b/plain/scores").glob("*.jsonl")) and not Path("broken").exists():
        Path("broken").touch()
        raise OSError("the judge fell over")
    return red(samples, prompts)
"""


@pytest.fixture
def bench(steer, place: Path):
    (place / "judge.py").write_text(JUDGES)

    def run(*arguments: object, name: str = "shapes-bench"):
        return steer("bench", name, "-m", "shapes", "--steps", "1", "--guidance", "1", *arguments)

    return run


def files(folder: Path, pattern: str) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob(pattern))}


def lines_of(done) -> dict[tuple[str, str], dict]:
    assert done.code == 0, done.err
    return {(line["column"], line["measure"]): line for line in json.loads(done.out)["lines"]}


@pytest.mark.slow  # thirty drawings
def test_one_command_gives_a_table_and_a_page_and_resumes(bench, place: Path) -> None:
    arguments = ["--limit", "30", "--out", "b"]
    done = bench(*arguments)
    assert done.code == 0, done.err
    assert "shapes-bench: success" in done.out and "numeracy" in done.out
    assert "Judge: shapes. Overall is the mean over groups; 95% intervals are over prompts." in done.out

    summary = json.loads((place / "b" / "summary.json").read_text())
    assert (summary["asked"], summary["all_prompts"], summary["missing"]) == (30, 240, [])
    line = next(line for line in summary["lines"] if line["measure"] == "requirements")
    (kept,) = (place / "b" / "plain" / "scores").iterdir()
    rows = [json.loads(text) for text in kept.read_text().splitlines()]
    assert len(rows) == 30 == line["images"]
    by_group: dict[str, list[float]] = {}
    categories = {p["prompt"]: p["category"] for p in map(json.loads, _prompts())}
    for row in rows:
        by_group.setdefault(categories[row["prompt"]], []).append(row["scores"]["shapes"])
    assert {name: len(scores) for name, scores in by_group.items()} == dict.fromkeys(by_group, 5)
    for name, scores in by_group.items():
        found = line["figures"][name]
        assert (
            found["estimate"] == pytest.approx(np.mean(scores)) and found["low"] <= found["estimate"] <= found["high"]
        )
    means = [np.mean(scores) for scores in by_group.values()]
    assert line["figures"]["overall"]["estimate"] == pytest.approx(np.mean(means))

    page = (place / "b" / "report.html").read_text()
    assert page.count("src='data:image/png") == 16 and "30 of 240 prompts, 1 images per prompt" in page
    assert "shapes-bench" in (place / "b" / "report.md").read_text()

    kept = {**files(place / "b", "*.png"), **files(place / "b", "scores/*.jsonl")}
    for path in list(kept)[::3]:  # some images are lost; the scores of the others stay
        if path.suffix == ".png":
            path.unlink()
    again = lines_of(bench(*arguments, "--json"))
    assert again["plain", "requirements"] == line
    now = {**files(place / "b", "*.png"), **files(place / "b", "scores/*.jsonl")}
    assert {path: data for path, (data, _) in now.items()} == {path: data for path, (data, _) in kept.items()}


def _prompts() -> list[str]:
    from steer_shapes.prompts import file_text

    return file_text("shapes-eval.jsonl").splitlines()


@pytest.mark.slow
def test_a_method_stands_beside_the_model_without_it(bench, place: Path) -> None:
    arguments = ["--limit", "12", "--out", "b", "--judge", "requirements=./judge.py:red", "--judge", "success=shapes"]
    method = ["-p", "best-of-n", "-n", "3", "-r", "./rewards.py:brightness"]
    both = lines_of(bench(*arguments, *method, "--json"))
    assert list(both) == [(column, name) for name in ("success", "requirements") for column in ("plain", "best-of-n")]
    plain, best = (both[column, "requirements"] for column in ("plain", "best-of-n"))
    assert plain["against"] == {} and plain["images"] == best["images"] == 12
    difference = best["figures"]["overall"]["estimate"] - plain["figures"]["overall"]["estimate"]
    assert best["against"]["overall"]["estimate"] == pytest.approx(difference)
    assert best["against"]["overall"]["prompts"] == 12

    kept = files(place / "b", "*.png")
    named = bench(*arguments, *method, "-n", "2", "--name", "two", "--no-plain")
    assert named.code == 0 and "two − plain" in named.out
    assert "Judge: ./judge.py:red. The judge is not the benchmark's (shapes)." in named.out
    assert "judge not the paper's" in (place / "b" / "report.md").read_text()
    assert files(place / "b" / "plain", "*.png").items() <= kept.items()
    assert len(list((place / "b" / "two").rglob("*.png"))) == 12


@pytest.mark.thorough
@pytest.mark.slow
def test_shards_of_several_machines_and_stages_give_the_same_figures(bench, place: Path) -> None:
    whole = lines_of(bench("--limit", "10", "--out", "w", "--json"))
    for number in (1, 2):
        shard = ["--limit", "10", "--out", "s", "--shard", f"{number}/2"]
        assert bench(*shard, "--stage", "render").code == 0
        if number == 1:
            assert "holds no scored image" in bench(*shard, "--stage", "report").error()
        assert bench(*shard, "--stage", "score").code == 0
        assert json.loads(bench(*shard, "--stage", "report", "--json").out)["missing"]  # of the benchmark's 240
    assert lines_of(bench("--limit", "10", "--out", "s", "--stage", "report", "--json")) == whole


@pytest.mark.slow
def test_an_interrupted_run_goes_on(bench, place: Path) -> None:
    arguments = ["--limit", "6", "--out", "b", "-p", "best-of-n", "-n", "16", "-r", "./judge.py:stops"]
    stopped = bench(*arguments)
    assert stopped.code == 130 and "run the same command again to resume" in stopped.err
    assert not (place / "b" / "summary.json").exists()
    kept = files(place / "b", "*.png")
    assert 6 <= len(kept) < 12  # four prompts go together
    done = bench(*arguments)
    assert done.code == 0, done.err
    now = files(place / "b", "*.png")
    assert len(now) == 12 and kept.items() <= now.items()


@pytest.mark.slow
def test_a_judge_that_breaks_keeps_what_it_scored(bench, place: Path) -> None:
    arguments = ["--limit", "12", "--out", "b", "--judge", "./judge.py:breaks", "--batch", "2"]
    done = bench(*arguments)
    assert done.code != 0 and "OSError: the judge fell over" in done.err and "Traceback" not in done.err
    assert not (place / "b" / "summary.json").exists()
    (kept,) = files(place / "b", "scores/*.jsonl").values()
    again = lines_of(bench(*arguments, "--json"))
    assert again["plain", "./judge.py:breaks"]["images"] == 12
    (now,) = files(place / "b", "scores/*.jsonl").values()
    assert now[0].startswith(kept[0]) and len(now[0].splitlines()) == 12


@pytest.mark.slow
def test_several_images_per_prompt_are_one_value(bench) -> None:
    found = lines_of(bench("--limit", "5", "--images", "2", "--out", "b", "--judge", "./judge.py:red", "--json"))
    line = found["plain", "./judge.py:red"]
    assert (line["images"], line["prompts"], line["figures"]["overall"]["prompts"]) == (10, 5, 5)
    other = bench("--limit", "5", "--images", "3", "--out", "b").error()
    assert "b holds a benchmark with other images (shapes-bench, 2 images per prompt); choose another --out" in other


def test_what_is_known_is_listed(steer) -> None:
    done = steer("bench", "--json")
    names = {row["name"] for row in json.loads(done.out)}
    assert names >= {
        "geneval", "geneval2", "t2i-compbench", "dpg", "parti", "drawbench", "hpsv2", "imagereward", "oneig",
        "shapes-bench",
    }  # fmt: skip
    table = steer("bench")
    assert table.code == 0 and "553 prompts" in table.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-r", "shapes", "-p", "best-of-n"], "'shapes' is both a reward and a judge"),
        (["--judge", "nothing"], "unknown reward 'nothing'"),
        (["--judge", "success=shapes", "--judge", "success=jpeg"], "success has a judge already"),
        (["--judge", "shapes", "--judge", "shapes:2"], "success has a judge already"),
        (["--shard", "3/2"], "shard '3/2': expected NUMBER/COUNT"),
        (["--limit", "1", "--shard", "2/2"], "shard 2/2 has none of the 1 prompts"),
        (["--name", "../x"], "name '../x': expected letters, digits"),
        (["-p", "best-of-n", "-r", "jpeg", "--name", "plain"], "'plain' is that of the model without methods"),
        (["--out", "s3://bucket/x"], "images are scored from a folder of this machine"),
        (["--prompts", "mine.jsonl"], "benchmark shapes-bench brings its own prompts"),
        (["-o", "jpeg.quality=3"], "jpeg"),
        (["--judge", "fluency"], "scores texts, and a benchmark judges images"),
        (["--stage", "report"], "holds no scored image"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line_before_anything_is_made(
    bench, place: Path, arguments: list[str], problem: str
) -> None:
    assert problem in bench("--limit", "5", "--out", "b", *arguments).error() if "--out" not in arguments else True
    if "--out" in arguments:
        assert problem in bench("--limit", "5", *arguments).error()
    assert not list(place.rglob("*.png"))


def test_an_unknown_benchmark_lists_the_known_ones(bench, place: Path) -> None:
    message = bench(name="genevil").error()
    assert "genevil" in message and "geneval" in message and "shapes-bench" in message
    assert list(place.iterdir()) == [place / "judge.py", place / "rewards.py"] or not list(place.glob("outputs*"))


def test_weights_and_prompts_that_are_not_there_are_named_first(steer, place: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(place / "assets"))
    message = steer("bench", "geneval", "-m", "shapes", "--limit", "2", "--out", "b").error()
    assert "geneval needs evaluation_metadata.jsonl of djghosh13/geneval" in message and "--prompts PATH" in message
    (place / "evaluation_metadata.jsonl").write_text('{"prompt": "a photo of a bench", "tag": "single_object"}\n')
    forged = steer("bench", "geneval", "-m", "shapes", "--prompts", ".", "--out", "b").error()
    assert "are not the evaluation_metadata.jsonl that geneval is defined by (another checksum)" in forged
    assert not (place / "b").exists()


@pytest.mark.slow
def test_a_folder_of_something_else_is_kept(bench, steer, place: Path) -> None:
    (place / "p.txt").write_text("a red circle")
    assert steer("render", "p.txt", "-m", "shapes", "--steps", "1", "--out", "r").code == 0
    assert "r " in bench("--limit", "2", "--out", "r").error()
    assert bench("--limit", "2", "--out", "b").code == 0
    assert steer("render", "p.txt", "-m", "shapes", "--steps", "1", "--out", "b").code == 2
    (place / "b" / "bench.json").write_text("{]")
    assert "is damaged; delete the folder or choose another --out" in bench("--limit", "2", "--out", "b").error()


@pytest.mark.slow
def test_a_model_of_texts_is_told_so(steer, place: Path) -> None:
    message = steer("bench", "shapes-bench", "-m", "text:shapes", "--limit", "2", "--out", "b").error()
    assert "benchmark shapes-bench is for images, and this model makes texts" in message
