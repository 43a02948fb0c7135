"""``steer render`` as it is typed: plans, events, mistakes, and prompts of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.processes import finished
from support.renders import digests, lines
from support.tiny import WORDS

from steer.cli.app import app
from steer.errors import SteerError

ODD = [
    "a " * 5000, "a 🦊 in the snow", "כלב אדום על הדשא", "../../etc/passwd", "C:\\con\\nul.txt",
    "<img src=x onerror=alert(1)>", "a\u202ered circle", "'; rm -rf / #", "%s {0} $HOME `id`",
]  # fmt: skip


def test_the_plan_of_a_dry_run(place: Path) -> None:
    (place / "p.csv").write_text("prompt,steps,size\na red circle,3,16x16\na blue square,,\nbad,many,\n")
    plan = ["render", "p.csv", "-m", "tiny", "--dry-run", "--out", "out"]
    text = finished(place, *plan, code=2)
    assert "p.csv, line 4: got steps 'many', expected a whole number" in text and len(text.splitlines()) == 1
    text = finished(
        place, "render", "p.csv", "-m", "tiny", "--dry-run", "--out", "out", "--skip-bad", "-n", 2, "--steps", 5
    )
    assert "skipped: p.csv, line 4" in text
    assert "out: 2 prompts, 0 done, 0 failed, 2 to do" in text
    assert "1 prompt in 1 pack: 2 particles, 3 steps, guidance 7.5, 16x16, chunk 2, 12 denoiser evaluations" in text
    assert "4 images, 32 denoiser evaluations" in text and "on disk" in text and "free" in text
    drops = [*plan, "--skip-bad", "-p", "prune", "-r", "./rewards.py:brightness", "-n", 6, "-o", "prune.at=0.4"]
    text = finished(place, *drops, "--steps", 5)
    assert "6 particles, 3 steps, guidance 7.5, 16x16, chunk 6, at most 36 denoiser evaluations each" in text
    assert "2 images, at most 96 denoiser evaluations" in text
    text = finished(place, *drops, "--steps", 5, "--choose", "all", "--json")
    planned = json.loads(text[text.index("{") :])  # after the warning of the line that is skipped
    assert planned["drops"] and planned["images"] == 2 * 3  # a third of six, rounded up
    assert not (place / "out").exists()


def test_odd_prompts_and_ids(place: Path) -> None:
    rows = [{"prompt": text, "id": text[:300]} for text in ODD] + ODD[1:3]
    (place / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finished(place, "render", "odd.jsonl", "-m", "tiny", "--steps", 1, "--guidance", 1, "--out", "out", "--json")
    metadata = lines(place / "out" / "metadata.jsonl")
    assert [row["prompt"] for row in metadata] == [text.strip() for text in [*ODD, *ODD[1:3]]]
    assert len(digests(place / "out")) == len(ODD) + 2
    assert all(Path(row["file_name"]).parent == Path("images") for row in metadata)
    assert not (place.parent / "etc").exists()


def test_mistakes_are_one_line_and_leave_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "p.txt").write_text(f"a {WORDS[1]} circle\n")
    (place / "same.jsonl").write_text('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n')
    for arguments, said in (
        ([], "got no prompt file"),
        (["nothere.txt"], "does not exist"),
        (["same.jsonl"], "line 1 and same.jsonl, line 2 both have the id 'x'"),
        (["p.txt", "--engine", "slurm"], "expected local or ray"),
        (["p.txt", "--workers", "2"], "is for --engine ray"),
        (["p.txt", "--layout", "flat"], "expected images or geneval"),
        (["p.txt", "--replicates", "0"], "replicates=0"),
        (["p.txt", "--replicates", "1" + "0" * 99], "expected 1..65536"),
        (["p.txt", "-p", "fkk"], "did you mean 'fk'"),
        (["p.txt", "--out", "p.txt"], "is a file"),
        (["p.txt", "--out", "s4://bucket/x"], "s4://bucket/x"),
        (["p.txt", "-r", "./rewards.py:nothere"], "nothere"),
    ):
        with pytest.raises(SteerError) as caught:
            app.main(["render", *arguments, "-m", "./nothere"], standalone_mode=False)
        assert said in str(caught.value), caught.value
    assert not (place / "outputs").exists() and not (place / "out").exists()
    text = finished(place, "gallery", ".", code=2)
    assert "holds no run" in text and len(text.splitlines()) == 1


def test_a_url_and_its_page(place: Path) -> None:
    (place / "p.txt").write_text('a red circle\n--prompt "a blue square" --seed 7 --steps 2\n')
    out = f"file://{place}/by url"
    finished(place, "render", "p.txt", "-m", "tiny", "--steps", 1, "--out", out)
    assert len(digests(place / "by url")) == 2
    assert {row["seed"] for row in lines(place / "by url" / "metadata.jsonl")} > {7}
    # a run file tells of the folder that it is in, by whatever name
    (place / "by url").rename(place / "moved")
    for config in ("moved/run.toml", f"file://{place}/moved/run.toml"):
        assert "moved: 2 prompts, 2 are done" in finished(place, "render", "--config", config)
    assert not (place / "by url").exists()
    (place / "moved").rename(place / "by url")
    text = finished(place, "gallery", "by url", "--json")
    assert json.loads(text) == {"page": "by url/index.html", "images": 2, "failed": 0, "runs": 1}
    assert "2 samples of 1 run" in finished(place, "gallery", out)


def test_the_page_of_both_commands(place: Path) -> None:
    (place / "p.txt").write_text("a red circle\n")
    arguments = ["p.txt", "-m", "tiny", "--steps", 2, "-p", "fk", "-r", "./rewards.py:brightness"]
    finished(place, "generate", "-f", *arguments, "--out", "all/generate")
    finished(place, "render", *arguments, "--out", "all/render")
    finished(place, "gallery", "all")
    details = "".join(path.read_text() for path in (place / "all" / "page").glob("details-*.js"))
    assert all(f"steer replay all/{made}/" in details for made in ("generate", "render"))
