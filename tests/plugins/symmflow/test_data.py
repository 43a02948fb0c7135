"""Data to train on: folders and what is wrong with them, torchvision's classes, the digits that come in a package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from steer import SteerError
from steer.cli.app import app
from steer.registry.plugins import manager
from steer_symmflow.train.data import Labeled, open_data

COLORS = {"sky": [0, 0, 255], "sea": [0, 255, 0]}


@pytest.mark.slow
def test_digits_are_real_and_their_splits_apart() -> None:
    data = open_data("digits", None, manager())
    assert (data.kind, data.size, data.labels) == ("classes", (16, 16), tuple("0123456789"))
    (train, _), (held, targets) = (data.all_of(split) for split in ("train", "eval"))
    assert (len(train), len(held)) == (1618, 179)
    seen = {image.tobytes() for image in train}
    assert sum(image.tobytes() in seen for image in held) == 0
    assert np.bincount(targets, minlength=10).min() >= 8


def noise(height: int, width: int, channels: int = 3) -> NDArray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def masks(folder: Path, *, size: tuple[int, int] = (16, 16), count: int = 3) -> Path:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    labels = np.arange(size[0] * size[1]).reshape(size) // (size[0] * size[1] // 2)
    for number in range(count):
        Image.fromarray(noise(16, 16)).save(folder / "images" / f"{number}.png")
        Image.fromarray(np.array(list(COLORS.values()), np.uint8)[labels]).save(folder / "masks" / f"{number}.png")
    (folder / "labels.json").write_text(json.dumps(COLORS))
    return folder


def classes(folder: Path) -> Path:
    for name in ("cat", "dog", ".ipynb_checkpoints"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(noise(16, 16)).save(folder / name / f"{number}.png")
    return folder


def opened(folder: Path | str, size: tuple[int, int] | None = None) -> Labeled:
    return open_data(str(folder), size, manager())


def test_masks_of_fewer_pixels_are_enlarged_without_blending(tmp_path: Path) -> None:
    data = opened(masks(tmp_path, size=(8, 8)))
    _, targets = data.batch(np.random.default_rng(0), 2)
    assert targets.shape == (2, 16, 16)
    assert (targets[:, :8] == 0).all() and (targets[:, 8:] == 1).all()


def test_images_are_read_as_segment_and_classify_read_them(tmp_path: Path) -> None:
    folder = classes(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(np.repeat(np.arange(16, dtype=np.uint8)[:, None, None] * 16, 16, 1).repeat(3, 2)).save(
        folder / "cat" / "0.png", exif=exif
    )
    Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save(folder / "cat" / "1.png")  # nothing but transparent
    data = opened(folder)
    assert data.labels == ("cat", "dog")  # hidden folders are no class
    images = np.concatenate([data.all_of(split)[0] for split in ("train", "eval")])
    upright = [image for image in images if (image == image[:1]).all() and image.std() > 0]
    assert len(upright) == 1 and (np.diff(upright[0][0, :, 0].astype(int)) < 0).all()
    assert sum((image == 255).all() for image in images) == 1


def listing(text: bytes) -> Callable[[Path], None]:
    return lambda folder: (classes(folder) / "metadata.csv").write_bytes(b"file_name,label\n" + text) and None


def with_masks(change: Callable[[Path], object], **how: object) -> Callable[[Path], None]:
    return lambda folder: change(masks(folder, **how)) and None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_masks(lambda f: f, size=(8, 16)), r"is 16x8, its image 16x16; expected the same aspect ratio"),
        (with_masks(lambda f: f, count=1), r"found 1 image, expected at least 2"),
        (with_masks(lambda f: (f / "masks" / "1.png").unlink()), r"1\.png has no mask"),
        (with_masks(lambda f: (f / "labels.json").unlink()), r"labels\.json does not exist; expected the color"),
        (with_masks(lambda f: (f / "labels.json").write_text("{oops")), r"labels\.json cannot be read as JSON"),
        (with_masks(lambda f: (f / "labels.json").write_text('{"a": [0.5, 1, 2], "b": [0, 1, 2]}')), r"two or more of"),
        (with_masks(lambda f: (f / "labels.json").write_text('{"a": [0, 1, 2], "b": [0, 1, 2]}')), r"same color"),
        (with_masks(lambda f: (f / "labels.json").write_text('{"a": [0, 1, 2], "b": [0, 255, 0]}')),
         r"which no label has .* add it to labels\.json or fix the mask$"),
        (with_masks(lambda f: Image.fromarray(noise(9, 16)).save(f / "images" / "2.png")), r"give one --size"),
        (with_masks(lambda f: (f / "images" / "1.png").write_bytes(b"x")), r"1\.png cannot be read: not a PNG"),
        (listing(b"cat/0.png,cat\ndog/0.png\n"), r"metadata\.csv, line 3: no label"),
        (listing(b'"cat/0.png,cat\ncat/1.png,cat\ndog/0.png,dog\n'), r"line 2: a quote opens a cell here, and it is"),
        (listing(b"cat/0.png,cat,big\ndog/0.png,dog\n"), r"line 2: 3 cells under 2 columns"),
        (lambda f: (classes(f) / "metadata.csv").write_text("image,label\na,b\n"),
         r"its columns are image, label, expected one named 'file_name'$"),
        (listing(b"cat/0.png,\xff\n"), r"metadata\.csv, line 2 cannot be read: .*expected UTF-8 text"),
        (listing(b"cat/0.png,cat\ncat/1.png,cat\n"), r"found 1 class, expected at least 2"),
        (listing(b"cat/0.png,cat\nnowhere.png,dog\n"), r"nowhere\.png cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_told_in_one_line(tmp_path: Path, make, message: str) -> None:
    make(tmp_path)
    with pytest.raises(SteerError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_torchvision_classes_are_taken_by_what_they_ask_for(tmp_path: Path) -> None:
    folder = classes(tmp_path)
    data = opened(f"torchvision:ImageFolder:{folder}")
    assert data.size == (16, 16) and {"cat", "dog"} <= set(data.labels)
    Image.fromarray(noise(9, 16)).save(folder / "cat" / "2.png")
    assert opened(f"torchvision:ImageFolder:{folder}", (16, 16)).size == (16, 16)
    for spec, message in (
        (f"ImageFolder:{folder}", "has images of several sizes; give one --size WxH for all"),
        ("transforms:x", "expected torchvision:CIFAR10:FOLDER with a class of torchvision"),
        (f"CIFAR10:{tmp_path}", "Dataset not found or corrupted"),
    ):
        with pytest.raises(SteerError, match=message):
            opened(f"torchvision:{spec}")


def test_a_training_is_refused_before_it_begins(folders, tmp_path: Path) -> None:
    data, out = classes(tmp_path / "data"), tmp_path / "out"

    def message(*arguments: object) -> str:
        command = ["train", "symmflow", "--data", data, "--out", out, "--widths", "16,32", "--steps", 1, *arguments]
        result = CliRunner().invoke(app, [str(a) for a in command], standalone_mode=False)
        assert isinstance(result.exception, (SteerError, click.UsageError)), (result.exception, result.output)
        return str(result.exception)

    assert "--rate nan: expected a number above 0" in message("--rate", "nan")
    for other in ("shapes", "small-town"):  # what other trainings take
        assert f"unknown data '{other}'" in message("--data", other)
    assert "--beta -4: expected a number above 0" in message("--beta", -4)
    assert "-1 is not in the range 0<=x<=4294967295" in message("--seed", -1)
    assert "size '0x0': expected WIDTHxHEIGHT above 0" in message("--size", "0x0")
    assert "got --widths beside --init" in message("--init", f"symmflow:{folders['classes']}")
    assert "widths end with 16, expected at least 32" in message("--widths", "16")
    assert "does not fit: expected multiples of 4" in message("--size", "18x18")
    assert not out.exists()
    (tmp_path / "file").write_text("x")
    assert "is a file" in message("--out", tmp_path / "file")
    assert "cannot be written to; choose another" in message("--out", tmp_path / "file" / "run")


@pytest.mark.training
def test_a_run_goes_on_with_its_own_data_only(tmp_path: Path) -> None:
    def train(data: Path, steps: int, *more: str) -> object:
        command = ["train", "symmflow", "--data", str(data), "--out", str(tmp_path / "run"), "--widths", "16,32",
                   "--batch", "2", "--precision", "no", "--steps", str(steps), *more]  # fmt: skip
        return CliRunner().invoke(app, command, standalone_mode=False).exception

    own, other = masks(tmp_path / "masks"), classes(tmp_path / "classes")
    assert train(own, 1) is None
    refused = train(other, 2, "--resume")
    assert isinstance(refused, SteerError) and "has kind='masks', now it is 'classes'" in str(refused)
    assert train(own, 2, "--resume") is None
