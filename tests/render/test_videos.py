"""Videos go through every command: a model made here, whose videos are cheap, and real MP4 files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler
from PIL import Image
from support.linear_gaussian import LinearGaussian
from torch import Tensor

from steer import Prompt, Sampler, SteerError
from steer.cli.app import app
from steer.models.media import media_of, mp4
from steer.models.media.video import DIGEST, Videos
from steer.registry.plugins import manager
from steer.registry.registry import Entry, Origin

VIDEO = media_of("video")


class Filmer(LinearGaussian):
    """Makes videos of a square whose speed and brightness are the two latents."""

    modality = "video"

    def __init__(self) -> None:
        super().__init__(DDIMScheduler())
        self.denoisers["base"] = torch.nn.Linear(1, 1)

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return 32, 16

    def frames(self, prompt: Prompt) -> int:
        return 6

    def decode(self, x: Tensor) -> Videos:
        speed, level = x.unbind(dim=1)
        time, place = torch.arange(6.0).view(1, 6, 1), torch.arange(32.0).view(1, 1, 32)
        lit = torch.sigmoid(8 - (place - 8 - 2 * speed.view(-1, 1, 1) * time).abs() * 2)
        frames = lit * torch.sigmoid(level).view(-1, 1, 1)
        return Videos(frames[:, :, None, None, :].expand(-1, -1, 3, 16, -1).contiguous(), fps=12)


@pytest.fixture(autouse=True)
def films(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("loader", "film", lambda *_: Filmer(), "", Origin("films", "", "this test"))
    monkeypatch.setitem(manager().registry.entries["loader"], "film", entry)


def steer(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == code, result.output
    return result.output


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


MODEL = ("-m", "film:tiny", "--device", "cpu", "--steps", 3, "-n", 3, "--seed", 1)


@pytest.mark.slow  # figures of traces
def test_generate_score_and_replay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = steer("generate", "one", "two", "-p", "fk", "-r", "motion", "--baseline", *MODEL, "--out", out)
    assert "videos, traces and sheet.png, compare.png in " in shown
    (result,) = [json.loads((out / "result.json").read_text())]
    files = [out / file for item in result["items"] for file in item["files"]]
    assert [file.suffix for file in files] == [".mp4", ".mp4"]
    particle = result["items"][0]["particles"][0]
    assert (particle["frames"], particle["fps"]) == (6, 12.0)
    assert result["items"][0]["recipe"]["settings"]["width"] == 32
    for sheet in ("sheet.png", "compare.png"):
        assert Image.open(out / sheet).width > 576
    # a file alone is enough: it carries the recipe and the hash of its frames
    file = files[0].rename(tmp_path / "alone.mp4")
    texts = mp4.texts(file)
    assert {"steer", "parameters", DIGEST} <= texts.keys() and "Size: 32x16" in texts["parameters"]
    again = ("--device", "cpu", "--out", tmp_path / "again")
    assert "equal to the original" in steer("replay", file, *again)
    scored = json.loads(steer("score", file, "-r", "motion", "--json"))
    kept = result["items"][0]["reward"]
    (row,) = scored["rows"]
    assert row["prompt"] == "one" and row["scores"]["motion"] == pytest.approx(kept, rel=0.3)
    texts[DIGEST] = "0" * 64
    value = Sampler("film:tiny").generate("two", steps=2, seed=7).videos[0]
    file.write_bytes(mp4.encoded(value.frames, 12, texts))
    outcome = json.loads(steer("replay", file, *again, "--force", "--json", code=1))
    assert (outcome["equal"], outcome["same"]) == (False, False) and outcome["max_difference"] > 5


@pytest.mark.slow
def test_render_resumes_and_the_page_has_clips(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    out = tmp_path / "render"
    words = ("render", tmp_path / "p.txt", *MODEL, "-r", "motion", "-p", "best-of-n", "--previews", 2, "--out", out)
    assert "32x16, 6 frames, " in steer(*words, "--dry-run")
    planned = json.loads(steer(*words, "--dry-run", "--json"))["bytes"]
    steer(*words)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert written / 3 < planned < written * 3
    journal = (out / "journal.jsonl").read_text()
    removed = out / "videos" / Path(rows_of(out / "metadata.jsonl")[1]["file_name"]).name
    before = removed.read_bytes()
    removed.unlink()
    steer(*words)
    assert removed.read_bytes() == before and (out / "journal.jsonl").read_text().startswith(journal)
    rows = rows_of(out / "metadata.jsonl")
    assert [row["file_name"].partition("/")[0] for row in rows] == ["videos", "videos"]
    assert (rows[0]["frames"], rows[0]["fps"]) == (6, 12.0)
    page = "".join(file.read_text() for file in (out / "page").iterdir())
    assert ".mp4" in page and "thumbs" in page and "previews" in page
    assert "equal to the original" in steer("replay", removed, "--device", "cpu", "--out", tmp_path / "again")
    assert "2 samples of 1 run" in steer("gallery", out)


@pytest.mark.slow
def test_compare(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("".join(f"number {n}\n" for n in range(10)))
    (tmp_path / "judge.py").write_text("def bright(samples, prompts): return samples.mean(dim=(1, 2, 3))")
    what = (tmp_path / "p.txt", "--method", "plain", "--method", "best-of-n", "-o", "best-of-n.n=2")
    scores = ("-r", "motion", "--judge", f"{tmp_path}/judge.py:bright")
    steer("compare", *what, *scores, "-m", "film:tiny", "--steps", 2, "--device", "cpu", "--out", tmp_path / "c")
    report = (tmp_path / "c" / "report.html").read_text()
    assert "<img class=strip alt=" in report
    assert np.isfinite([row["judge"][f"{tmp_path}/judge.py:bright"] for row in _rows(tmp_path / "c")]).all()


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for file in (folder / "cells").iterdir():
        yield from rows_of(file)


def test_mistakes_are_told_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for words, said in (
        (("-r", "length"), "reward 'length' scores texts, and this model makes videos"),
        (("-r", "jpeg", "-o", "jpeg.frames=middle"), "option jpeg.frames='middle': expected first, last, uniform:K"),
        (("-r", "motion", "-o", "motion.frames=last"), "'motion' scores videos as they are: leave it out"),
        (("--length", 3), "length is a setting of texts, and this model makes videos"),
    ):
        with pytest.raises(SteerError, match=said):
            steer("generate", "one", *MODEL, *words, "--out", tmp_path / "out")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(SteerError, match="videos need PyAV"):
        steer("generate", "one", *MODEL, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(Sampler("film:tiny").generate("one", steps=2, seed=1).videos[0]) == 6  # nothing is written
