"""The command line: drawing from masks and classes, replaying, segmenting, classifying, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from steer import SteerError
from steer.cli.app import app
from steer.render.replay import read_recipe
from steer_symmflow.images import mask_of, pack_mask
from steer_symmflow.model import load
from steer_symmflow.reading.votes import votes

COLORS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
"""Of the labels of the model of masks."""


def steer(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], standalone_mode=False)


def done(*arguments: object) -> Result:
    result = steer(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(*arguments: object) -> str:
    result = steer(*arguments)
    assert isinstance(result.exception, SteerError), (result.exception, result.output)
    return str(result.exception)


def test_an_image_drawn_from_a_mask_is_replayed_without_the_mask(folders, tmp_path: Path) -> None:
    mask = tmp_path / "scene.png"
    mask.write_bytes(folders["mask"].read_bytes())
    out = tmp_path / "out"
    done(
        "generate", "-m", f"symmflow:{folders['masks']}", "--mask", mask, "--steps", 2, "--device", "cpu", "--out", out
    )
    mask.unlink()
    (image,) = out.glob("*-000.png")
    recipe, _ = read_recipe(image)
    assert recipe.prompt["text"] == "mask scene"
    assert (mask_of(recipe.prompt["metadata"]["mask"], "") == np.asarray(Image.open(folders["mask"]))).all()
    again = done("replay", image, "--out", tmp_path / "again", "--device", "cpu", "--json")
    assert json.loads(again.stdout)["equal"] is True


def test_rows_of_a_prompt_file_name_their_masks(folders, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a box", "mask": str(folders["mask"]), "seed": 3}) + "\n")
    model = f"symmflow:{folders['masks']}"
    done("generate", "-f", rows, "-m", model, "--steps", 1, "--device", "cpu", "--out", tmp_path / "a")
    done("generate", "a box", "-m", model, "--mask", folders["mask"], "--seed", 3, "--steps", 1, "--device", "cpu",
         "--out", tmp_path / "b")  # fmt: skip
    first, second = (np.asarray(Image.open(next((tmp_path / n).glob("*-000.png")))) for n in "ab")
    assert (first == second).all()
    recipe, _ = read_recipe(next((tmp_path / "a").glob("*-000.png")))
    assert recipe.prompt["metadata"]["mask"].startswith("data:image/png;base64,")


@pytest.mark.slow  # two commands that load two models each
@pytest.mark.parametrize("use", ["--reward", "--judge"])
def test_what_a_reward_compares_with_goes_into_the_recipe(folders, tiny: Path, tmp_path: Path, use: str) -> None:
    mask, rows = tmp_path / "scene.png", tmp_path / "rows.jsonl"
    mask.write_bytes(folders["mask"].read_bytes())
    rows.write_text(json.dumps({"prompt": "a red star", "mask": str(mask), "seed": 3}) + "\n")
    done("generate", "-f", rows, "-m", tiny, use, f"symmflow:{folders['masks']}", "--steps", 1, "--device", "cpu",
         "--out", tmp_path / "out")  # fmt: skip
    mask.unlink()
    (image,) = (tmp_path / "out").glob("*-000.png")
    again = done("replay", image, "--out", tmp_path / "again", "--device", "cpu", "--json")
    assert json.loads(again.stdout)["equal"] is True


def test_a_mask_is_packed_without_loss(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    few = np.array([(255, 64, 64), (64, 64, 255), (1, 2, 3)], np.uint8)[pixels[..., 0] % 3]
    for number, image in enumerate((pixels, few)):
        file = tmp_path / f"{number}.png"
        Image.fromarray(image).save(file)
        assert (mask_of(pack_mask(str(file)), "x") == image).all()
    assert len(pack_mask(str(tmp_path / "1.png"))) < len(pack_mask(str(tmp_path / "0.png"))) / 3
    for bad in ("data:text/html;base64,AAAA", "data:image/png;base64,AAAA", "data:image/png;base64,%%"):
        with pytest.raises(SteerError, match=r"^mask of prompt x (is not a PNG|cannot be read)"):
            mask_of(bad, "of prompt x")


@pytest.mark.slow
def test_segment_writes_masks_that_can_be_drawn_from(folders, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for folder, side in (("a", 16), ("b", 40)):
        (images / folder).mkdir(parents=True)
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / folder / "same.png")
    (images / "zz.png").write_bytes(b"no image")
    result = done("segment", images, "-m", f"symmflow:{folders['masks']}", "--steps", 2, "--draws", 3,
                  "--device", "cpu", "--out", tmp_path / "out", "--json")  # fmt: skip
    assert result.exit_code == 1
    assert "zz.png cannot be read" in result.stderr
    first, second = json.loads(result.stdout)["rows"]
    assert (first["mask"], second["mask"]) == tuple(str(tmp_path / "out" / f"same{n}-mask.png") for n in ("", "-2"))
    assert Image.open(second["mask"]).size == (40, 40)
    assert sum(second["share"].values()) == pytest.approx(1, abs=1e-6)
    # an image's mask is that of three draws' majority, whatever else is in its batch
    model = load(folders["masks"])
    pixels = torch.from_numpy(np.array(Image.open(images / "a" / "same.png"))).permute(2, 0, 1)[None] / 255
    share, labels = votes(model, pixels, steps=2, draws=3).max(dim=1)
    assert (mask_of(first["mask"], "x") == np.array(model.config.colors)[labels[0].numpy()]).all()
    assert first["confidence"] == pytest.approx(float(share.mean()))
    assert min(Image.open(first["overlay"]).size) >= 256
    done("generate", "-m", f"symmflow:{folders['masks']}", "--mask", first["mask"], "--steps", 1, "--device", "cpu",
         "--out", tmp_path / "drawn")  # fmt: skip


@pytest.mark.slow
def test_classify_counts_the_draws_that_agree(folders, tmp_path: Path) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    common = ("-m", f"symmflow:{folders['classes']}", "--draws", 4, "--device", "cpu")
    result = done("classify", tmp_path, *common, "--csv", "--out", tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 3
    for row in rows:
        shares = {name: float(row[f"share.{name}"]) for name in ("none", "box", "disc")}
        assert float(row["confidence"]) == shares[row["class"]] == max(shares.values())
        assert all(share * 4 == int(share * 4) for share in shares.values())
    assert (tmp_path / "out" / "classes.png").is_file()


@pytest.mark.slow
def test_what_cannot_be_read_or_drawn_is_told_in_one_line(folders, tmp_path: Path) -> None:
    masks, classes = (f"symmflow:{folders[kind]}" for kind in ("masks", "classes"))
    image = folders["mask"]
    assert "segments; use steer segment" in refused("classify", image, "-m", masks, "--device", "cpu")
    assert "classifies; use steer classify" in refused("segment", image, "-m", classes, "--device", "cpu")
    assert "got both --json and --csv" in refused("classify", image, "--json", "--csv")
    out = tmp_path / "out"
    draw = ("generate", "--steps", 1, "--device", "cpu", "--out", out)
    assert "class 3: the model has 3 classes, 0 (none) to 2 (disc)" in refused(*draw, "-m", classes, "--class", 3)
    assert "image nowhere.png does not exist" in refused(*draw, "-m", masks, "--mask", "nowhere.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "drawing.eps")  # its decoder would run another program
    assert "not a PNG, JPEG or WebP" in refused(*draw, "-m", masks, "--mask", tmp_path / "drawing.eps")
    assert "model 'shapes' does not draw from --class; give a PROMPT too" in refused(
        *draw, "-m", "shapes", "--class", "star"
    )
    assert not out.exists()


@pytest.mark.slow
def test_segments_are_compared_with_true_masks(folders, tmp_path: Path) -> None:
    images, truth = tmp_path / "images", tmp_path / "truth"
    images.mkdir()
    truth.mkdir()
    generator = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(images / f"{number}.png")
        labels = generator.integers(0, 3, (20, 20))
        labels[:3] = 255
        if number % 2:  # of numbers, or of the labels' colors
            Image.fromarray(labels.astype(np.uint8)).save(truth / f"{number}.png")
        else:
            Image.fromarray(np.array([*COLORS, *[COLORS[0]] * 253], dtype=np.uint8)[labels]).save(
                truth / f"{number}.png"
            )
    common = (
        "segment", images, "-m", f"symmflow:{folders['masks']}", "--steps", 1, "--draws", 1, "--device", "cpu",
    )  # fmt: skip
    result = json.loads(done(*common, "--out", tmp_path / "out", "--truth", truth, "--json").stdout)
    assert {path.name for path in (tmp_path / "out").glob("*-mask.png")} == {f"{n}-mask.png" for n in range(5)}
    expected = []
    for number, row in enumerate(result["rows"]):
        found = np.array(Image.open(row["mask"]).convert("RGB").resize((20, 20), Image.Resampling.NEAREST))
        found = (found[:, :, None] == np.array(COLORS)).all(axis=3).argmax(axis=2)
        right = np.array(Image.open(truth / f"{number}.png"))
        if right.ndim == 3:
            right = (right[:, :, None] == np.array(COLORS)).all(axis=3).argmax(axis=2)
        inside = [((found == n) & (right == n)).sum() for n in range(3)]
        union = [(((found == n) | (right == n)) & (right < 3)).sum() for n in range(3)]
        expected.append((inside, union))
        assert row["miou"] == pytest.approx(np.mean([i / u for i, u in zip(inside, union, strict=True) if u]))
    inside, union = np.sum(expected, axis=0)
    assert result["miou"]["value"] == pytest.approx(np.mean(inside / union)) and result["miou"]["images"] == 5
    assert result["miou_over_images"]["low"] <= result["miou_over_images"]["value"]
    assert "miou 0." in done(*common, "--out", tmp_path / "again", "--truth", truth).stdout
    (truth / "3.png").unlink()
    assert "3.png has no true mask 3 in" in refused(*common, "--out", tmp_path / "no", "--truth", truth)


@pytest.mark.slow
def test_classes_are_compared_with_true_ones(folders, tmp_path: Path) -> None:
    for label in ("box", "disc"):
        (tmp_path / label).mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    common = ("classify", tmp_path, "-m", f"symmflow:{folders['classes']}", "--steps", 1, "--device", "cpu")
    result = json.loads(done(*common, "--truth", tmp_path, "--json").stdout)
    right = [row["class"] == Path(row["file"]).parent.name for row in result["rows"]]
    assert result["accuracy"]["value"] == pytest.approx(np.mean(right)) and result["accuracy"]["images"] == 6
    assert "accuracy 0." in done(*common, "--truth", tmp_path).stdout or all(right)
    (tmp_path / "table.csv").write_text("file,class\n0.png,box\n1.png,disc\n")
    assert "2.png' has no class in" in refused(*common, "--truth", tmp_path / "table.csv")
