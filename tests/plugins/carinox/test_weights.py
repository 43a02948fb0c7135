"""Categories, tables and base weights: from a prompt and an expression to what each reward weighs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from steer import Prompt, Reward, SteerError
from steer.rewards.combinations import Scaled, WeightedSum
from steer_carinox.calibration.categories import canonical, category_of, classify
from steer_carinox.terms import terms_of
from steer_carinox.weights import PUBLISHED, UNIFORM, find_table, inline, toml_text

ROOT = Path(__file__).resolve().parents[3]


def mean(samples, prompts):
    return samples.mean(dim=(1, 2, 3))


def sum_of(*terms: tuple[str, float]) -> WeightedSum:
    return WeightedSum([(name, weight, mean) for name, weight in terms])


@pytest.mark.parametrize("split", ["eval", "tune"])
def test_rules_find_the_categories_of_the_embedded_world(split) -> None:
    for line in (ROOT / "prompts" / f"shapes-{split}.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert classify(row["prompt"]).name == canonical(row["category"]), row


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("a green bench and a red car", "color", "'green'"),
        ("a round clock on the wall", "shape", "'round'"),
        ("the fluffy pillow and the wooden chair", "texture", "'fluffy'"),
        ("a dog on the right of a cow", "2d_spatial", "'on the right of'"),
        ("A cat hidden by a sofa", "3d_spatial", "'hidden by'"),
        ("four oranges", "numeracy", "'four'"),
        ("3 birds", "numeracy", "'3'"),
        ("a person is playing the guitar", "non_spatial", "'playing'"),
        ("The black chair, the blue blanket and the soft rug", "complex", "3 things, texture and color words"),
        ("the round wooden table behind a red sofa", "complex", "texture, color and shape words in a relation"),
        ("a king in a castle", "overall", "no rule applies"),
        ("", "overall", "no rule applies"),
        ("日本 👩", "overall", "no rule applies"),
    ],
)
def test_rules_give_their_reason(text, name, reason) -> None:
    found = classify(text)
    assert (found.name, found.reason) == (name, reason)


@pytest.mark.parametrize(
    ("named", "name"), [("Color_val", "color"), ("spatial", "2d_spatial"), ("3D-Spatial", "3d_spatial"),
                        ("non spatial", "non_spatial"), ("counting", "numeracy"), ("none", "none")]
)  # fmt: skip
def test_the_prompt_files_own_word_comes_first(named, name) -> None:
    found = category_of(Prompt("four oranges", category=named))
    assert (found.name, found.reason) == (name, "named with the prompt")


def test_an_unknown_category_names_the_known_ones() -> None:
    with pytest.raises(SteerError, match=r"unknown category 'colro' — did you mean 'color'\? \(known: .*numeracy"):
        category_of(Prompt("four oranges", category="colro"))


def test_published_weights_multiply_the_base_weights() -> None:
    terms = terms_of(sum_of(("hps", 1), ("imagereward", 1), ("vqa", 1), ("da", 1)))
    assert [term.base for term in terms] == [5, 5, 1, 5]
    assert PUBLISHED.multipliers("color", terms) == [0.40, 1.06, 1.14, 1.41]
    assert UNIFORM.multipliers("color", terms) == PUBLISHED.multipliers("none", terms) == [1, 1, 1, 1]
    for category in PUBLISHED.rows:  # each row's mean is 1 but for rounding
        assert sum(PUBLISHED.multipliers(category, terms)) == pytest.approx(4, abs=0.05)


def test_written_weights_stand_and_written_scales_replace_the_usual_ones() -> None:
    terms = terms_of(sum_of(("hps", 2), ("imagereward", 1)))
    assert [term.base for term in terms] == [2, 1]
    samples = torch.full((1, 3, 2, 2), 0.3)
    assert [float(term.reward(samples, ["x"])) for term in terms] == pytest.approx([0.6, 3.3 / 6])
    own = WeightedSum([("hps@0.1..0.5", 1.0, Scaled("hps", mean, 0.1, 0.4)), ("mine", 1.0, mean)])
    terms = terms_of(own)
    assert [(term.label, term.name) for term in terms] == [("hps", "hps"), ("mine", "mine")]
    assert [float(term.reward(samples, ["x"])) for term in terms] == pytest.approx([0.5, 0.3])
    (clip,) = terms_of(sum_of(("clip:shapes", 1)))
    assert (clip.label, clip.name, clip.width) == ("clip:shapes", "clip", 100)


def test_rewards_that_cannot_be_climbed_are_refused() -> None:
    class Verdict(Reward):
        pass

    with pytest.raises(SteerError, match=r"'judge' is not differentiable; .*zero-order"):
        terms_of(WeightedSum([("mine", 1.0, mean), ("judge", 1.0, Verdict())]))
    with pytest.raises(SteerError, match="'judge' is not differentiable"):
        terms_of(WeightedSum([("judge@0..2", 1.0, Scaled("judge", Verdict(), 0, 2))]))
    for weight in (0, -1):
        with pytest.raises(SteerError, match="give a positive one"):
            terms_of(sum_of(("mine", weight)))
    with pytest.raises(SteerError, match="'mine' is named twice"):
        terms_of(sum_of(("mine", 1), ("mine", 2)))


def test_tables_from_files_and_from_the_command_line(tmp_path: Path) -> None:
    terms = terms_of(sum_of(("clip:shapes", 1), ("mine", 1), ("min(a,b)", 1)))
    rows = {"color": {"clip": 0.5, "mine": 2.25, "min(a,b)": 0.25}, "mood": {"clip:shapes": 3.0, "mine": 0.0}}
    (tmp_path / "w.toml").write_text(toml_text(rows, ["by hand"]))
    table = find_table(str(tmp_path / "w.toml"))
    weights = table.multipliers("color", terms)
    assert weights == [0.5, 2.25, 0.25]
    with pytest.warns(UserWarning, match=r"w\.toml has no weight of min\(a,b\) in the category mood; using 1"):
        assert table.multipliers("mood", terms) == [3.0, 0.0, 1.0]
    assert category_of(Prompt("x", category="Mood"), table.categories).name == "mood"
    assert find_table(inline(terms, weights)).multipliers("whatever", terms) == weights
    (tmp_path / "a=b").mkdir()
    (tmp_path / "a=b" / "w.toml").write_text(toml_text(rows))
    assert find_table(str(tmp_path / "a=b" / "w.toml")).rows == table.rows
    with pytest.raises(SteerError, match="nothing would steer"):
        find_table("mine=0").multipliers("color", terms_of(sum_of(("mine", 1))))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("color = 3", r"no table \[weights.CATEGORY\]"),
        ("[weights]\ncolor = 3", "weights.color: got int, expected a table"),
        ("[weights.color]\nhps = -1", r"weights.color.hps: got -1, expected a weight, 0 or more"),
        ("[weights.color]\nhps = nan", "got nan"),
        ("[weights.color]\nhps = true", "got True"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, text, said) -> None:
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(SteerError, match=said):
        find_table(str(tmp_path / "w.toml"))
    with pytest.raises(SteerError, match=r"absent.toml does not exist; expected published, uniform"):
        find_table(str(tmp_path / "absent.toml"))
    with pytest.raises(SteerError, match="cannot read 'hps=x'; expected NAME=WEIGHT"):
        find_table("hps=x")
