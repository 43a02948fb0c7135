"""The texts that prompts quote, and reading them in images with the real reader."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from steer import Prompt, SteerError
from steer.models.media import media_of
from steer.testing import check_reward
from steer_rewards.ocr import Ocr, likeness
from steer_rewards.quoted import quoted_texts, wanted_texts

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FACES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Bold", "DejaVuSerif-BoldItalic", "STIXGeneral", "cmr10")
COLORS = (("white", "black"), ("navy", "yellow"), ("#335533", "white"))


def drawn(*lines: str, face: str = "DejaVuSans", size: int = 32, colors: tuple[str, str] = COLORS[0]) -> Tensor:
    """Return an image ``[3, 192, 288]`` with lines of text."""
    image = Image.new("RGB", (288, 192), colors[0])
    for number, line in enumerate(lines):
        font = ImageFont.truetype(FONTS / f"{face}.ttf", size)
        ImageDraw.Draw(image).text((16, 24 + 2 * size * number), line, fill=colors[1], font=font)
    return media_of("image").samples([image], torch.device("cpu"))[0]


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    return Ocr()


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('a sign "OPEN"', ["OPEN"]),
        ("a dog's shirt says 'Don't stop', the dogs' house", ["Don't stop"]),
        ('a 12" record called "So What", 7" wide', ["So What"]),
        (
            "“Hi”, „Offen“, „Zu”, «ouvert», »Hallo«, ‹x›, 「開店」, 『本』, ‘yes’",
            ["Hi", "Offen", "Zu", "ouvert", "Hallo", "x", "開店", "本", "yes"],
        ),
        ("“it's 'fine'”", ["it's 'fine'"]),
        ('"A" and "A", "B"', ["A", "B"]),
        ('a poster: "two\n  lines"', ["two lines"]),
        ('"" and " "', []),
        ("rock'n'roll, isn't it? 5'11\" tall", []),
    ],
)
def test_texts_are_found_between_quotes_of_every_kind(prompt: str, texts: list[str]) -> None:
    assert quoted_texts(prompt) == texts


def test_the_row_goes_before_the_quotes_and_is_checked() -> None:
    assert wanted_texts(Prompt('a "sign"', metadata={"ocr": ["OPEN", "24 h"]})) == ["OPEN", "24 h"]
    assert wanted_texts(Prompt("a sign", metadata={"ocr": "OPEN"})) == ["OPEN"]
    for wrong in ([], [" "], 7, {"a": 1}, ["x", 3]):
        with pytest.raises(SteerError, match=r"prompt 'a sign' \(id .*\): got .* as 'ocr', expected a text or a list"):
            wanted_texts(Prompt("a sign", metadata={"ocr": wrong}))


@pytest.mark.parametrize(
    ("text", "seen", "expected"),
    [
        ("OPEN", "open", 1.0),
        ("open 24 h", "weareOPEN24Htoday", 1.0),
        ("OPEN", "", 0.0),
        ("OPEN", "0PEN", 0.75),
        ("OPEN", "OPEEN", 0.75),
        ("OPEN", "xyz", 0.0),
        ("Don’t – stop", "don't-stop", 1.0),
        ("ＯＰＥＮ", "open", 1.0),
        ("Don´t, 12″", "don't,12\"", 1.0),
        ("abcdef", "abXcdYef", 4 / 6),
    ],
)
def test_likeness_counts_edits_at_the_best_place(text: str, seen: str, expected: float) -> None:
    assert likeness(text, seen) == pytest.approx(expected)


@pytest.mark.slow
def test_it_reads_words_in_several_fonts_sizes_and_colors(ocr: Ocr) -> None:
    words = ("OPEN", "Hello World", "Steer 24", "Birthday")
    cases = [
        (words[(i + j) % 4], face, size, COLORS[(i + j) % 3])
        for i, face in enumerate(FACES)
        for j, size in enumerate((18, 28, 44))
    ]
    images = torch.stack([drawn(word, face=face, size=size, colors=colors) for word, face, size, colors in cases])
    scores = ocr(images, [f'a sign "{word}"' for word, *_ in cases])
    assert scores.mean() > 0.95
    assert (scores == 1).float().mean() > 0.9, [case for case, score in zip(cases, scores, strict=True) if score < 1]


@pytest.mark.slow
def test_what_is_not_shown_is_missed_and_several_texts_are_averaged(ocr: Ocr) -> None:
    both = drawn("OPEN", "24 hours")
    asked = ['"OPEN"', '"open" and "24 HOURS"', '"OPEN" and "JKLM"', '"JKLM"']
    scores = ocr(both.expand(4, -1, -1, -1), asked)
    assert scores.tolist() == [1.0, 1.0, pytest.approx(0.5, abs=0.15), pytest.approx(0.0, abs=0.3)]
    empty = ocr(torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 8, 8).repeat(1, 8, 8)]), ['"OPEN"', '"OPEN"'])
    assert empty.tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(ocr: Ocr) -> None:
    images = torch.stack([drawn("OPEN"), drawn("Hello"), drawn("OPEM"), drawn("24 h")])[:, :, :96, :128]
    report = check_reward(ocr, images, ['"OPEN"', '"Hello"', '"OPEN"', '"48 h" "24 h"'], name="ocr").require()
    assert report.scores[0] == 1 and report.scores[2] == pytest.approx(0.75)


@pytest.mark.slow
def test_a_prompt_without_quotes_is_an_error_before_anything_is_sampled(ocr: Ocr) -> None:
    with pytest.raises(
        SteerError, match=r"ocr: prompt 'a sign' \(id \w+\) quotes no text; write what the image should"
    ):
        ocr.completed(Prompt("a sign"))
    assert ocr.completed(Prompt('a "sign"')) == 'a "sign"'


def test_without_the_reader_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(SteerError, match=r"ocr needs rapidocr and onnxruntime: pip install 'steer-diffusion\[ocr\]'"):
        Ocr()


@pytest.mark.slow  # loads the reader twice
def test_a_run_without_quotes_is_refused_before_its_first_step(steer: Callable, tmp_path: Path) -> None:
    for method in ("fk", "best-of-n"):
        asked = ["a red circle", "-m", "shapes", "--plugin", method, "--reward", "ocr"]
        done = steer("generate", *asked, "--out", tmp_path / "x")
        assert done.error().startswith("ocr: prompt 'a red circle' (id ") and "quotes no text" in done.error()
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_score_reads_a_folder_of_images(steer: Callable, tmp_path: Path) -> None:
    for name, word in (("a", "OPEN"), ("b", "SHUT")):
        media_of("image").values(drawn(word)[None, :, :96, :128])[0].save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text('a shop with a sign "OPEN"')
    done = steer("score", tmp_path, "--reward", "ocr", "--csv")
    assert done.code == 0, done.err
    scores = [float(line.rpartition(",")[2]) for line in done.out.splitlines()[1:]]
    assert scores[0] == 1 and scores[1] < 0.5
    assert "quotes no text" in steer("score", tmp_path, "--reward", "ocr", "--prompt", "a shop").error()
