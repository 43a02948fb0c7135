"""Masks and classes against the truth: by hand, against torchmetrics, and as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steer import SteerError
from steer.evaluate.measure.labels import (
    Classes,
    accuracy,
    classes_of,
    confusion,
    ious,
    mean_iou,
    over_images,
    read_classes,
    read_mask,
    resized,
)

COLORS = {"sky": [0, 0, 255], "sea": [0, 128, 128], "sun": [255, 255, 0]}


def test_the_table_counts_pixels_by_true_and_found_label() -> None:
    truth, found = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 9, 0]])
    table = confusion(found, truth, 3)
    assert table.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]  # 9 is wrong, 255 does not count
    assert ious(table)[:2].tolist() == [0.5, 0.0] and np.isnan(ious(table)[2])
    assert mean_iou(table) == 0.25


@pytest.mark.slow
def test_the_mean_is_torchmetrics_own() -> None:
    from torchmetrics.functional.classification import multiclass_jaccard_index

    generator = np.random.default_rng(0)
    truth, found = generator.integers(0, 5, (4, 30, 40)), generator.integers(0, 6, (4, 30, 40))
    truth[truth == 4], found[generator.random(found.shape) < 0.5] = 255, 0  # label 4 is found but never true
    total = sum(confusion(a, b, 6) for a, b in zip(found, truth, strict=True))
    expected = multiclass_jaccard_index(
        torch.from_numpy(found), torch.from_numpy(truth), num_classes=6, average=None, ignore_index=255
    )
    assert ious(total) == pytest.approx(expected.double().numpy(), abs=1e-6)
    assert mean_iou(total) == pytest.approx(float(expected.mean()), abs=1e-6)
    assert over_images([confusion(found[0], truth[0], 6)]) is None


def test_masks_are_read_from_numbers_palettes_and_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "gray.png")
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.reshape(-1).tolist())
    palette.save(tmp_path / "palette.png")
    assert read_mask(tmp_path / "gray.png", None).tolist() == labels.tolist()
    assert read_mask(tmp_path / "palette.png", None).tolist() == labels.tolist()
    colors = [tuple(color) for color in COLORS.values()]
    Image.fromarray(np.array([[colors[0], colors[2]], [(3, 120, 130), colors[1]]], dtype=np.uint8)).save(
        tmp_path / "color.png"
    )
    assert read_mask(tmp_path / "color.png", colors).tolist() == [[0, 2], [1, 1]]
    with pytest.raises(SteerError, match=r"mask .*color\.png is a color picture \(RGB\); give the labels' colors"):
        read_mask(tmp_path / "color.png", None)
    assert resized(labels, (4, 4)).tolist() == labels.repeat(2, 0).repeat(2, 1).tolist()


def painted(folder: Path, name: str, labels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.array(list(COLORS.values()), dtype=np.uint8)[labels]).save(folder / name)


def test_miou_as_typed(steer, place: Path) -> None:
    (place / "labels.json").write_text(json.dumps(COLORS))
    generator = np.random.default_rng(0)
    tables = []
    for number in range(6):
        truth = generator.integers(0, 2, (8, 6))
        found = np.where(generator.random((8, 6)) < 0.7, truth, 0)
        painted(place / "truth", f"{number}.png", truth)
        painted(place / "found", f"{number}-mask.png" if number else "0.png", found)
        painted(place / "found", f"{number}-overlay.png", found)  # steer segment's other pictures are passed by
        tables.append(confusion(found, truth, 3))
    done = steer("measure", "miou", "found", "--reference", "truth", "--labels", "labels.json", "--json")
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert row["value"] == pytest.approx(mean_iou(sum(tables))) and row["images"] == 6
    assert row["labels"] == pytest.approx(dict(zip(["sky", "sea"], ious(sum(tables))[:2], strict=True)))
    assert row["over_images"]["estimate"] == pytest.approx(np.mean([mean_iou(table) for table in tables]))
    text = steer("measure", "miou", "found", "--reference", "truth", "--labels", "labels.json").out
    assert text.startswith(f"miou {row['value']:.4f} (") and "sky 0." in text
    (place / "found" / "9.png").write_bytes((place / "found" / "0.png").read_bytes())
    message = steer("measure", "miou", "found", "--reference", "truth", "--labels", "labels.json").error()
    assert "9.png has no counterpart 9 in truth" in message


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("{}", "expected one or more labels"),
        ('{"sky": [0, 0]}', "'sky' has the color [0, 0], expected three numbers of 0..255"),
        ('{"sky": [0, 0, 256]}', "expected three numbers"),
        ('{"sky": [0, 0, 1], "sea": [0, 0, 1]}', "each with a color of its own"),
        ("[", "labels"),
    ],
)
def test_bad_labels_are_named(steer, place: Path, labels: str, problem: str) -> None:
    painted(place / "x", "a.png", np.zeros((2, 2), dtype=int))
    (place / "labels.json").write_text(labels)
    assert problem in steer("measure", "miou", "x", "--reference", "x", "--labels", "labels.json").error()


def test_accuracy_as_typed(steer, place: Path) -> None:
    (place / "found.csv").write_text("file,class\na/1.png,cat\na/2.png,dog\na/3.png,cat\n")
    (place / "truth.jsonl").write_text(
        "".join(
            f'{{"file_name": "{n}.png", "label": "{label}"}}\n' for n, label in ((1, "cat"), (2, "cat"), (3, "cat"))
        )
    )
    row = json.loads(steer("measure", "accuracy", "found.csv", "--reference", "truth.jsonl", "--json").out)
    assert row == {"measure": "accuracy", "value": pytest.approx(2 / 3), "images": 3}
    for number, label in ((1, "cat"), (2, "dog"), (3, "dog")):
        (place / "tree" / label).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(place / "tree" / label / f"{number}.png")
    assert steer("measure", "accuracy", "found.csv", "--reference", "tree").out == "accuracy 0.6667 (images 3)\n"
    (place / "found.csv").write_text("file,class\n7.png,cat\n")
    assert (
        "'7.png' has no class in tree; expected one"
        in steer("measure", "accuracy", "found.csv", "--reference", "tree").error()
    )


def test_accuracy_of_enough_images_has_an_interval() -> None:
    found = {str(number): "x" for number in range(20)}
    truth = Classes({name: "x" if int(name) < 15 else "y" for name in found}, Path("truth"))
    interval, value, count = accuracy(found, truth)
    assert interval is not None and (value, count) == (0.75, 20) and interval.low < 0.75 < interval.high


def test_files_are_found_by_the_end_of_their_paths() -> None:
    truth = Classes({"cat/1.png": "cat", "dog/1.png": "dog", "2.png": "dog", "x\\2.png": "cat"}, Path("truth"))
    assert [truth.of(name) for name in ("a/dog/1.png", "cat\\1.png", "x/2.png", "./2.png")] == [
        "dog",
        "cat",
        "cat",
        "dog",
    ]
    with pytest.raises(SteerError, match=r"'1\.png' has classes cat and dog in truth; expected one"):
        truth.of("1.png")
    with pytest.raises(SteerError, match=r"'3\.png' has no class in truth"):
        truth.of("3.png")


def test_tables_of_classes_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"rows": [{"file": "1.png", "class": "cat"}, {"file": "1.png", "class": "dog"}]}))
    with pytest.raises(SteerError, match=r"x\.json, entry 2: '1\.png' has another class above"):
        classes_of(file)
    for text in ("[]", "{}", '[{"file": "a"}]', '[{"class": "a"}]', "[3]", "[", '[{"file": "/", "class": 1}]'):
        file.write_text(text)
        with pytest.raises(SteerError, match=r"x\.json"):
            read_classes(file)
    with pytest.raises(SteerError, match="has no subfolders of images; expected one per class"):
        Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
        classes_of(tmp_path)
