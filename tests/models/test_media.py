"""Media: a third one, made here, goes through every command; nothing else in the tree knows the kinds."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler
from PIL import Image
from support.linear_gaussian import LinearGaussian
from torch import Tensor

from steer import Result, Sample, SteerError
from steer.cli.app import app
from steer.models.media import MEDIA, Medium, media_at, media_of
from steer.models.media.media import joined
from steer.models.media.text import Texts
from steer.registry.plugins import manager
from steer.registry.registry import Entry, Origin
from steer.rewards.combinations import check_modality
from steer.rewards.reward import Reward

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


class Sound(Medium):
    """Two amplitudes, as JSON."""

    name = "sound"
    suffix = ".snd"

    def values(self, samples: Tensor) -> list[tuple[float, ...]]:
        return [tuple(row) for row in samples.tolist()]

    def samples(self, values: Sequence[tuple[float, ...]], device: torch.device) -> Tensor:
        return torch.tensor(values, device=device)

    def probe(self, size: tuple[int, int], device: torch.device) -> Tensor:
        return torch.zeros(1, size[0], device=device)

    def size_text(self, size: tuple[int, int]) -> str:
        return f"{size[0]} amplitudes"

    def facts(self, value: tuple[float, ...]) -> dict[str, Any]:
        return {"loudness": max(map(abs, value))}

    def line(self, value: tuple[float, ...]) -> str:
        return f"la {value[0]:.3f}"

    def encoded(self, value: tuple[float, ...], texts: Mapping[str, str]) -> bytes:
        return json.dumps(value).encode()

    def difference(self, file: bytes, value: tuple[float, ...]) -> int:
        return 0 if tuple(json.loads(file)) == value else 255


class Instrument(LinearGaussian):
    """Makes sounds."""

    modality = "sound"

    def __init__(self) -> None:
        super().__init__(DDIMScheduler())
        self.denoisers["base"] = torch.nn.Linear(1, 1)

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[-1], 1


class Loud(Reward):
    """Scores sounds."""

    modality = "sound"

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        return samples.abs().amax(dim=1)


@pytest.fixture
def sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third medium, a model that makes it and a reward that scores it."""
    monkeypatch.setitem(MEDIA, "sound", Sound())
    entries, origin = manager().registry.entries, Origin("sounds", "", "this test")
    monkeypatch.setitem(entries["loader"], "sound", Entry("loader", "sound", lambda *_: Instrument(), "", origin))
    monkeypatch.setitem(entries["reward"], "loud", Entry("reward", "loud", Loud, "", origin))


def steer(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == code, result.output
    return result.output


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


MODEL = ("-m", "sound:tiny", "--device", "cpu", "--steps", 3, "-n", 2, "-r", "loud", "--seed", 1)


@pytest.mark.slow  # figures of traces
def test_a_third_medium_is_generated_beside_plain_ones_and_replayed(sounds: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = steer("generate", "one", "two", "-p", "fk", "--baseline", *MODEL, "--out", out)
    assert "one → la " in shown and "sounds, traces and sounds.jsonl, compare.txt in " in shown
    rows = rows_of(out / "sounds.jsonl")
    assert [row["prompt"] for row in rows] == ["one", "two"] and all(row["loudness"] == row["reward"] for row in rows)
    assert "  steered\n" in (out / "compare.txt").read_text() and "la " in (out / "compare.txt").read_text()
    file = out / rows[0]["file_name"]
    assert file.suffix == ".snd" and not list(out.rglob("*.txt.snd")) and not (out / "sheet.png").exists()
    again = ("--out", tmp_path / "again", "--device", "cpu")
    assert "equal to the original" in steer("replay", file, *again)
    file.write_text("[0, 0]")
    outcome = json.loads(steer("replay", file, *again, "--force", "--json", code=1))
    assert (outcome["equal"], outcome["max_difference"]) == (False, 255)


@pytest.mark.slow
def test_a_third_medium_is_rendered_gone_on_with_and_shown(sounds: None, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    out = tmp_path / "render"
    words = ("render", tmp_path / "p.txt", *MODEL, "--out", out)
    plan = steer(*words, "--dry-run")
    assert "2 amplitudes, " in plan and "2 sounds, " in plan
    for _ in "ab":  # the second makes nothing
        steer(*words)
    rows = rows_of(out / "metadata.jsonl")
    assert [row["file_name"].partition("/")[0] for row in rows] == ["sounds", "sounds"] and rows[0]["loudness"] > 0
    assert len(rows_of(out / "journal.jsonl")) == 2 and '"two"' in "".join(
        file.read_text() for file in (out / "page").iterdir()
    )
    verdict = steer("replay", out / rows[1]["file_name"], "--out", tmp_path / "again", "--device", "cpu")
    assert "equal to the original" in verdict
    for name, *extra in (("layout geneval", "--layout", "geneval"), ("previews", "--previews", 2)):
        with pytest.raises(SteerError, match=f"{name}: for images, and this model makes sounds"):
            steer(*words[:-1], tmp_path / name, *extra)


@pytest.mark.slow
def test_a_third_medium_is_compared(sounds: None, tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("def soft(samples, prompts): return -samples.abs().amax(dim=1)")
    (tmp_path / "p.txt").write_text("".join(f"number {n}\n" for n in range(10)))
    what = (tmp_path / "p.txt", "--method", "plain", "--method", "best-of-n", "-o", "best-of-n.n=2")
    scores = ("-r", "loud", "--judge", f"{tmp_path}/judge.py:soft")
    steer("compare", *what, *scores, "-m", "sound:tiny", "--steps", 2, "--device", "cpu", "--out", tmp_path / "c")
    row = rows_of(next((tmp_path / "c" / "cells").iterdir()))[0]
    assert row["loudness"] > 0 and "spread" not in row


def test_images_and_texts_survive_the_way_to_a_value_and_back() -> None:
    image, text = media_of("image"), media_of("text")
    samples = torch.randint(0, 256, (2, 3, 4, 6)).float() / 255
    values = image.values(samples)
    assert torch.equal(image.samples(values, CPU), samples) and image.size(values[0]) == {"width": 6, "height": 4}
    data = image.encoded(values[0], {"note": "näh\n"})
    assert image.difference(data, values[0]) == 0
    assert image.difference(data, Image.eval(values[0], lambda level: level ^ 4)) == 4
    assert image.difference(data, values[0].resize((3, 3))) == 255
    assert image.probe((6, 4), CPU).shape == (1, 3, 4, 6)
    words = text.samples(text.values(Texts(["a", "\ud800"])), CPU)
    assert words == Texts(["a", "\ud800"]) and text.encoded("\ud800", {}) == b"\xed\xa0\x80\n"
    assert text.difference(b"a\n", "a") == 0 and text.difference(b"a", "a") == 255
    assert joined([words, words]) == Texts(["a", "\ud800"] * 2) and torch.equal(joined([samples, samples])[2:], samples)


def test_a_files_texts_are_read_back_if_it_carries_some(tmp_path: Path) -> None:
    file = tmp_path / "a.PNG"
    file.write_bytes(media_of("image").encoded(Image.new("RGB", (2, 2)), {"steer": "{}", "parameters": "näh"}))
    assert media_at(file).name == "image" and media_at(file).texts_in(file) == {"steer": "{}", "parameters": "näh"}
    assert media_at(Path("a.TXT")).texts_in(Path("a.TXT")) is None and media_at(Path("a.webp")).name == "image"


def test_a_mistaken_modality_is_told_with_those_that_there_are() -> None:
    class Mistaken(LinearGaussian):
        modality = "imge"

    message = r"unknown modality 'imge' — did you mean 'image'\? \(known: image, text, video\)"
    with pytest.raises(SteerError, match=message):
        Mistaken(DDIMScheduler())
    with pytest.raises(SteerError, match=message):
        check_modality("mine", Mistaken, "text")


def test_a_sample_is_what_it_is_asked_for_as() -> None:
    text, picture = Sample("a", 0, None, 0.0), Sample(Image.new("RGB", (1, 1)), 0, None, 0.0)
    assert text.text == "a" and picture.image.size == (1, 1) and Result.texts
    with pytest.raises(TypeError, match=r"not an image: use \.image, \.video"):
        _ = text.image
    with pytest.raises(TypeError, match=r"not a text: use \.image, \.video"):
        _ = picture.text


def test_nothing_else_asks_which_kind_a_sample_is() -> None:
    asked = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for folder in ("steer", "plugins")
        for file in (ROOT / folder).rglob("*.py")
        if ROOT / "steer/models/media" not in file.parents and "modality" in (text := file.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare)
        and "modality" in ast.unparse(node)
        and any(
            isinstance(part, ast.Constant) and isinstance(part.value, str) for part in (node.left, *node.comparators)
        )
    ]
    assert not asked
