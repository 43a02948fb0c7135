"""Category weights from ratings: correlations, intervals, and the command on files good and bad."""

from __future__ import annotations

import json
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import spearmanr

from steer import SteerError
from steer_carinox.calibration.calibrate_command import command
from steer_carinox.calibration.correlations import Ratings, calibrate, correlations, shares
from steer_carinox.calibration.ratings import read_ratings
from steer_carinox.weights import find_table

REWARDS = """
def brightness(samples, prompts): return samples.mean(dim=(1, 2, 3))
def redness(samples, prompts): return samples[:, 0].mean(dim=(1, 2))
"""


def test_correlations_are_spearmans_with_ties() -> None:
    rng = np.random.default_rng(0)
    rating = rng.integers(0, 5, 60).astype(float)
    scores = np.stack([rating + rng.normal(size=60), rng.normal(size=60), np.ones(60)])
    found = correlations(rating, scores)
    for value, row in zip(found[:2], scores, strict=False):
        assert value == pytest.approx(spearmanr(rating, row).statistic)
    assert found[2] == 0


def test_within_prompts_only_the_order_among_a_prompts_images_counts() -> None:
    prompt = np.repeat(np.arange(20), 5)
    rng = np.random.default_rng(0)
    quality, difficulty = rng.normal(size=100), 10 * prompt.astype(float)
    scores = np.stack([quality, difficulty])
    across = correlations(quality + difficulty, scores)
    within = correlations(quality + difficulty, scores, prompt)
    assert across[1] > across[0]
    assert within[0] > 0.9
    assert within[1] == 0


def test_weights_are_correlations_over_their_mean() -> None:
    assert shares(np.array([0.6, 0.2, 0.2, 0.2])).tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert shares(np.array([0.5, -0.3])).tolist() == [2, 0]


def ratings(count: int, prompts: int, noise: float = 1.0, seed: int = 0) -> Ratings:
    rng = np.random.default_rng(seed)
    rating = rng.normal(size=count)
    scores = {"good": rating + noise * rng.normal(size=count), "weak": rating + 4 * noise * rng.normal(size=count)}
    return Ratings(rating, scores, np.arange(count) % prompts)


@pytest.mark.slow  # how often intervals cover shows in dozens of them
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    big = ratings(40_000, 40_000)
    truth = correlations(big.rating, np.stack(list(big.scores.values())))
    covered = 0
    for seed in range(40):
        found = calibrate(ratings(60, 30, seed=seed), draws=200)
        assert found is not None
        covered += found.correlation["good"].low <= truth[0] <= found.correlation["good"].high
    assert covered >= 40 * 0.95 - 3 * (40 * 0.95 * 0.05) ** 0.5 - 1


@pytest.mark.slow  # seven bootstraps
def test_doubts_are_named() -> None:
    assert calibrate(ratings(400, 80)).doubts == ()  # type: ignore[union-attr]
    few = calibrate(ratings(20, 4))
    assert few is not None
    assert "only 20 ratings of 4 prompts (expected 40 of 8 or more)" in few.doubts
    alone = calibrate(ratings(40, 1), within=True)
    assert alone is not None
    assert alone.correlation["weak"].high - alone.correlation["weak"].low > 0.2  # a single prompt is no certainty
    rng = np.random.default_rng(1)
    data = ratings(100, 20)
    against = calibrate(Ratings(data.rating, {"good": data.scores["good"], "bad": -data.scores["good"],
                                              "none": rng.normal(size=100)}, data.prompt))  # fmt: skip
    assert against is not None
    assert against.weight["bad"].estimate == 0
    assert any("bad" in doubt and "weighs 0" in doubt for doubt in against.doubts)
    assert any(doubt.startswith("no clear correlation of none") for doubt in against.doubts)
    assert calibrate(Ratings(np.ones(50), data.scores, data.prompt[:50])) is None
    assert calibrate(ratings(3, 3)) is None


# ---- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(REWARDS)
    return tmp_path


A, B = "./mine.py:brightness", "./mine.py:redness"


def run(path: str | Path, *arguments: str) -> str:
    given = [str(path), "--rewards", f"{A},{B}", "--out", "out/w.toml", "--draws", "100", "--force", *arguments]
    done = CliRunner().invoke(command, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def rated_images(place: Path) -> list[dict[str, Any]]:
    """Gray pictures whose rating is their brightness, red ones whose rating is their redness."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(96):
        color = rng.integers(0, 255, 3)
        counts = number % 2 == 0
        Image.new("RGB", (4, 4) if number % 3 else (4, 6), tuple(map(int, color))).save(place / f"{number}.png")
        rating = float(color.mean() if counts else color[0])
        text = f"{'four' if counts else 'red'} things{' here' * (number // 4)}"
        rows.append({"prompt": text, "image": f"{number}.png", "rating": rating})
    return rows


def test_prompts_are_found_under_any_name_of_theirs(place: Path) -> None:
    from steer_carinox.calibration.categories_command import command as categories

    rows = [{"Caption": f"four {i} things", "rating": i, "scores": {A: i, B: -i}} for i in range(3)]
    found = read_ratings(write(place / "r.jsonl", rows), "rating", [A, B])
    assert [row.prompt for row in found] == [row["Caption"] for row in rows]
    (place / "p.csv").write_text("Words\nfour oranges\n")
    for more, code in (([], 1), (["--column", "words"], 0)):
        done = CliRunner().invoke(categories, ["--file", "p.csv", *more])
        assert done.exit_code == code and ("numeracy" in done.output) == (code == 0), done.output


@pytest.mark.slow  # scores images and bootstraps
def test_a_table_is_derived_from_images_and_carinox_can_read_it(place: Path) -> None:
    said = run(write(place / "ratings.jsonl", rated_images(place)))
    data = tomllib.loads((place / "out" / "w.toml").read_text())
    assert set(data["weights"]) == {"numeracy", "color", "overall"}
    assert data["weights"]["numeracy"][A] > 1 > data["weights"]["numeracy"][B]
    assert data["weights"]["color"][B] > 1 > data["weights"]["color"][A]
    assert "numeracy (48 ratings, 24 prompts)" in said
    assert find_table("out/w.toml").rows["color"][B] == data["weights"]["color"][B]
    with Image.open(place / "out" / "w.png") as picture:
        assert picture.width > 300


@pytest.mark.slow
def test_scores_in_the_file_are_used_and_a_score_can_be_the_rating(place: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        truth = float(rng.normal())
        scores = {"judge": truth, A: truth + float(rng.normal()), B: float(rng.normal())}
        rows.append({"file": f"absent-{number}.png", "prompt": f"a red thing{' here' * number}", "scores": scores})
    path = write(place / "scores.jsonl", rows)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(path, "--rating", "judge")
    assert any("color: no clear correlation of ./mine.py:redness" in str(w.message) for w in caught)
    scaled = run(path, "--rating", "judge", "--rewards", f"{A}@0.2..0.8,{B}")  # carinox knows it by the same name
    assert set(find_table("out/w.toml").rows["color"]) == {A, B}, scaled
    (place / "w.png").write_text("precious")  # the plot's place
    given = [str(path), "--rewards", f"{A},{B}", "--rating", "judge", "--draws", "100"]
    for out in ("out/w.toml", "w.toml"):
        before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
        with pytest.raises(SteerError, match="is there already; add --force"):
            CliRunner().invoke(command, [*given, "--out", out], standalone_mode=False, catch_exceptions=False)
        assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before
    with pytest.raises(SteerError, match=r"lacks the column rating \(it has .*--rating \./mine.py:brightness takes"):
        run(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"rating": 1, "image": "0.png"}], r"lacks the column prompt \(it has image, rating\)"),
        ([{"text": "x"}], r"lacks the columns rating, image"),
        ([{"prompt": "x", "rating": 1}], "lacks the column image"),
        ([{"prompt": "x", "rating": 1, "image": "0.png"}, {"prompt": "y", "image": "0.png"}], "line 2: no rating"),
        ([{"prompt": "x", "rating": "good", "image": "0.png"}], "line 1: rating is 'good', expected a finite number"),
        ([{"prompt": "x", "rating": float("nan"), "image": "0.png"}], "is nan, expected a finite number"),
        ([{"prompt": "x", "rating": 1, "image": "absent.png"}], "absent.png cannot be read"),
        ([{"prompt": "x", "rating": 1, "image": "0.png", "category": "mood"}], "unknown category 'mood'"),
        ([{"prompt": "x", "rating": 1, "image": "0.png"}] * 3, "no category has ratings to derive weights from"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no weights")
def test_bad_ratings_are_one_line(place: Path, rows, said) -> None:
    Image.new("RGB", (4, 4)).save(place / "0.png")
    with pytest.raises(SteerError, match=said):
        run(write(place / "bad.jsonl", rows))
    assert not (place / "out").exists()


def test_bad_arguments_are_one_line(place: Path) -> None:
    path = write(place / "r.jsonl", [{"prompt": "x", "rating": 1, "image": "0.png"}])
    for arguments, said in (
        (["--rewards", A], "give at least two rewards"),
        (["--rewards", f"{A},rating"], "among --rewards"),
        (["--rewards", f"{A}:2,{B}"], r"'\./mine.py:brightness:2' is weighted or a sum"),
        (["--rewards", f"{A},{A}@0..2"], "is named twice"),
        (["--rewards", f"{A},clpi"], "unknown reward 'clpi'"),
        (["--out", "w.json"], "ends in .toml"),
        (["--device", "gpu"], "unknown device 'gpu'"),
    ):
        with pytest.raises(SteerError, match=said):
            run(path, *arguments)
    for text, said in (("[1]\n", "line 1: expected a JSON object"), ("", "holds no rating"), ("{\n", "line 1")):
        (place / "odd.jsonl").write_text(text)
        with pytest.raises(SteerError, match=said):
            run("odd.jsonl")
    with pytest.raises(SteerError, match="does not exist"):
        run("absent.jsonl")
