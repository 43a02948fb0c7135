"""Drafts, picked by a person and rendered in full: the same seeds, slots and settings, more steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import Steer

PROMPTS = "a red circle\na blue square\n"


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float32)


@pytest.fixture
def render(steer: Steer, tiny: Path, place: Path):
    (place / "p.txt").write_text(PROMPTS)

    def run(*arguments: object, out: str = "drafts") -> list[Path]:
        done = steer("render", "p.txt", "-m", tiny, "--guidance", 2, "--eta", 0, "--out", out, *arguments)
        assert done.code == 0, done.err
        return sorted((place / out / "images").glob("*.png"))

    return run


@pytest.mark.slow
def test_with_the_steps_of_the_draft_it_is_the_draft(steer: Steer, render, place: Path) -> None:
    drafts = render("--draft", 2, "--negative", "a circle")
    assert len(drafts) == 4 and "steps = 10" in (place / "drafts" / "run.toml").read_text()
    picks = [drafts[1], drafts[2]]
    (place / "picks.txt").write_text("".join(f"{file.relative_to(place)}\n" for file in picks))
    assert steer("finish", "--picks", "picks.txt", "--steps", 10, "--out", "same").code == 0
    found = sorted((place / "same" / "images").glob("*.png"))
    assert [file.name for file in found] == [file.name for file in picks]
    for file, draft in zip(found, picks, strict=True):
        assert np.array_equal(pixels(file), pixels(draft))
    assert json.loads(steer("replay", found[0], "--json").out)["equal"] is True

    done = steer("finish", "--picks", "-", "--steps", 12, "--out", "full", stdin=(place / "picks.txt").read_text())
    assert done.code == 0, done.err
    whole = render("--replicates", 2, "--negative", "a circle", "--steps", 12, out="whole")
    for file in (place / "full" / "images").glob("*.png"):
        assert np.array_equal(pixels(file), pixels(next(one for one in whole if one.name == file.name)))
    again = steer("finish", *picks, "--steps", 12, "--out", "full", "--json")
    assert again.code == 0 and json.loads(again.out.splitlines()[0])["todo"] == 0


@pytest.mark.slow
def test_one_particle_of_a_population_is_finished_alone(steer: Steer, render, place: Path) -> None:
    population = render("-n", 3, "--choose", "all", "--steps", 2)
    assert steer("finish", population[2], "--steps", 2, "--out", "one").code == 0
    (found,) = (place / "one" / "images").glob("*.png")
    assert np.array_equal(pixels(found), pixels(population[2]))

    (best, _) = render("-p", "best-of-n", "-o", "best-of-n.n=3", "-r", "./rewards.py:brightness", "--steps", 2, out="b")
    assert steer("finish", best, "--steps", 2, "--out", "two").code == 0
    (found,) = (place / "two" / "images").glob("*.png")
    assert np.array_equal(pixels(found), pixels(best))


@pytest.mark.thorough
@pytest.mark.slow
def test_a_finished_sample_of_the_embedded_model_is_its_draft_and_no_other(steer: Steer, place: Path) -> None:
    (place / "p.txt").write_text("a red square and a blue circle\n")
    assert steer("render", "p.txt", "--draft", 2, "--eta", 0, "--out", "drafts").code == 0
    drafts = sorted((place / "drafts" / "images").glob("*.png"))
    assert steer("finish", *drafts, "--steps", 18, "--out", "full").code == 0
    full = sorted((place / "full" / "images").glob("*.png"))
    apart = [[float(np.abs(pixels(one) - pixels(other)).mean()) for other in drafts] for one in full]
    assert np.argmin(apart, axis=1).tolist() == [0, 1], apart


@pytest.mark.slow
def test_mistakes_are_told_and_nothing_is_written(steer: Steer, render, place: Path) -> None:
    steered = render("-p", "fk", "-r", "./rewards.py:brightness", "-n", 2, "--steps", 2, "--eta", 1)[0]
    assert "was made with fk, which changes samples" in steer("finish", steered, "--out", "x").error()
    other = render("--steps", 1, out="other")
    assert "are of two renders" in steer("finish", steered, other[0], "--out", "x").error()
    Image.new("RGB", (8, 8)).save("photo.png")
    assert "there is no run.toml above it" in steer("finish", "photo.png", "--out", "x").error()
    Image.new("RGB", (8, 8)).save(place / "other" / "images" / "photo.png")
    assert "carries no steer recipe" in steer("finish", "other/images/photo.png", "--out", "x").error()
    assert "does not exist" in steer("finish", "none.png", "--out", "x").error()
    assert "got no picks" in steer("finish", "--out", "x").error()
    (place / "empty.txt").write_text("\n \n")
    assert "lists no picks" in steer("finish", "--picks", "empty.txt", "--out", "x").error()
    assert "steps=0" in steer("finish", other[0], "--steps", 0, "--out", "x").error()
    assert "which mean the same" in steer("render", "p.txt", "--draft", 2, "--replicates", 3, "--out", "x").error()
    assert "slot=70000" in steer("generate", "a", "--slot", 70000, "--out", "x").error()
    assert not (place / "x").exists()
