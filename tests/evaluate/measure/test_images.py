"""``steer measure`` of images: FID, KID, CMMD, CLIP score and LPIPS, against the packages that define them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from steer import SteerError
from steer.evaluate.measure import inception
from steer.evaluate.measure.clips import cmmd
from steer.evaluate.measure.images import batches, images_in, pairs_of
from steer.evaluate.measure.lpips import load_lpips

CPU = torch.device("cpu")


def pictures(folder: Path, count: int, seed: int, size: tuple[int, int] = (24, 20)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        low = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(low).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("images")
    return pictures(root / "a", 6, 0), pictures(root / "b", 7, 1)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the network of FID, as a file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Bare(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Keep the initial weights."""

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bare = Bare("inception", ["64"], feature_extractor_weights_path=str(folder / "empty.pth"))
    torch.save(bare.state_dict(), folder / "random.pth")
    return folder / "random.pth"


@pytest.mark.slow  # a network of 24 million weights
def test_fid_and_kid_are_torch_fidelitys(steer, folders, network: Path, place: Path, monkeypatch) -> None:
    from torch_fidelity import calculate_metrics

    monkeypatch.setattr(inception, "FEATURES", 64)  # of an early layer: the distance of 2048 takes half a minute
    expected = calculate_metrics(
        input1=str(folders[0]), input2=str(folders[1]), fid=True, kid=True, kid_subset_size=6, feature_layer_fid="64",
        feature_layer_kid="64", feature_extractor_weights_path=str(network), cuda=False, verbose=False, cache=False,
        samples_find_ext="png", batch_size=4,
    )  # fmt: skip
    found = steer("measure", "fid", folders[0], "--reference", folders[1], "--weights", network, "--json", "--batch", 3)
    assert found.code == 0, found.err
    row = json.loads(found.out)
    assert row["value"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert (row["images"], row["reference"]) == (6, 7) and "FID of 6 images is too large" in found.err
    row = json.loads(steer("measure", "kid", folders[0], "--reference", folders[1], "--weights", network, "--json").out)
    assert row["value"] == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3, abs=1e-7)

    mean, covariance = inception.statistics_of(
        inception.features(inception.load_inception(str(network), CPU), images_in(folders[1], ""), 4, lambda: None, CPU)
    )
    np.savez(place / "known.npz", mu=mean, sigma=covariance)
    known = steer("measure", "fid", folders[0], "--reference", "known.npz", "--weights", network, "--json")
    assert json.loads(known.out)["value"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)


def test_fid_is_the_distance_of_two_gaussians() -> None:
    from scipy.linalg import sqrtm

    generator = np.random.default_rng(0)
    first, second = (torch.from_numpy(generator.normal(size=(40, 6)) @ generator.normal(size=(6, 6))) for _ in "ab")
    (m, c), (n, d) = (inception.statistics_of(each) for each in (first, second))
    expected = np.square(m - n).sum() + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    assert inception.fid((m, c), (n, d)) == pytest.approx(expected)
    assert inception.fid((m, c), (m, c)) == pytest.approx(0, abs=1e-6)


def test_kid_is_the_unbiased_distance_under_a_cubic_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(20, 5, generator=generator), torch.rand(20, 5, generator=generator) + 0.3

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / 5 + 1) ** 3

    within = [(kernel(each, each).sum() - kernel(each, each).trace()) / (20 * 19) for each in (first, second)]
    mean, sd = inception.kid(first, second)
    assert mean == pytest.approx(float(sum(within) - 2 * kernel(first, second).mean()), rel=1e-4)
    assert sd == pytest.approx(0, abs=1e-5)  # each draw is all of them
    with pytest.raises(SteerError, match=r"a subset of 30 images cannot be drawn from 20; expected 2\.\.20"):
        inception.kid(first, second, 30)


def test_cmmd_is_a_kernel_distance_of_unit_vectors(monkeypatch) -> None:
    generator = np.random.default_rng(0)
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True)
                     for each in (generator.normal(size=(5, 4)), generator.normal(size=(7, 4)) + 0.5))  # fmt: skip

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.exp(-np.square(x - y).sum() / 200) for x in a for y in b]))

    expected = 1000 * (mean(first, first) + mean(second, second) - 2 * mean(first, second))
    assert cmmd(first, second) == pytest.approx(expected) and expected > 0
    monkeypatch.setattr("steer.evaluate.measure.clips.ROWS", 2)
    assert cmmd(first, second) == pytest.approx(expected)
    assert cmmd(first, first) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_cmmd_and_clip_score_of_folders(steer, folders, place: Path) -> None:
    row = json.loads(steer("measure", "cmmd", folders[0], "--reference", folders[1], "--clip", "shapes", "--json").out)
    assert row["value"] > 0 and (row["images"], row["reference"]) == (6, 7)
    same = steer("measure", "cmmd", folders[0], "--reference", folders[0], "--clip", "shapes")
    assert same.out.startswith(("cmmd 0.0000", "cmmd -0.0000"))

    scored = steer("score", folders[0], "-r", "clip:shapes", "--prompt", "a red circle", "--json")
    scores = [row["scores"]["clip:shapes"] for row in json.loads(scored.out)["rows"]]
    row = json.loads(steer("measure", "clip", folders[0], "--prompt", "a red circle", "--json").out)
    assert row["value"] == pytest.approx(np.mean(scores), abs=1e-4) and row["low"] < row["value"] < row["high"]
    assert "prompt" in steer("measure", "clip", folders[0]).error()


@pytest.mark.slow
def test_lpips_is_torchmetrics_own(steer, folders, place: Path) -> None:
    from torchmetrics.functional.image import lpips as theirs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = theirs._LPIPS(pretrained=True, net="alex", pnet_rand=True)
    state = {f"features.{name.partition('.')[2]}": value for name, value in network.net.state_dict().items()}
    torch.save(state, place / "alexnet.pth")
    heads = Path(theirs.__file__).parent / "lpips_models" / "alex.pth"
    mine = load_lpips(str(place / "alexnet.pth"), str(heads), CPU)
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.rand(3, 3, 72, 64, generator=generator) for _ in "ab")
    with torch.no_grad():
        expected = network(2 * first - 1, 2 * second - 1).flatten()
        found = mine(first, second)
    assert found.shape == (3,) and torch.allclose(found, expected, rtol=1e-4) and found.min() > 0

    pictures(place / "x", 2, 0, (64, 72))
    pictures(place / "y", 2, 1, (64, 72))
    weights = ["--net", place / "alexnet.pth", "--heads", heads]
    done = steer("measure", "lpips", "x", "--reference", "y", *weights, "--json")
    both = [[torch.from_numpy(np.array(Image.open(place / side / f"{n}.png"))).permute(2, 0, 1) / 255 for n in (0, 1)]
            for side in "xy"]  # fmt: skip
    with torch.no_grad():
        expected = network(*(2 * torch.stack(each) - 1 for each in both)).mean()
    assert json.loads(done.out)["value"] == pytest.approx(float(expected), rel=1e-4)
    assert steer("measure", "lpips", "x", "--reference", "x", *weights).out.startswith("lpips 0.0000")


def test_images_are_batched_by_size_and_damaged_ones_end_the_measure(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 3, 0)
    pictures(tmp_path / "a" / "deep", 2, 1, (10, 12))
    found = list(batches(images_in(tmp_path / "a", "folder"), 2))
    assert [tuple(pixels.shape) for _, pixels in found] == [(2, 3, 20, 24), (1, 3, 20, 24), (2, 3, 12, 10)]
    path, pixels = found[0][0][0], found[0][1][0]
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(Image.open(path)))
    (tmp_path / "a" / "9.png").write_bytes(b"no picture")
    with pytest.raises(SteerError, match=r"9\.png"):
        list(batches(images_in(tmp_path / "a", "folder"), 2))


def test_pairs_have_the_same_place_and_name(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 2, 0)
    pictures(tmp_path / "b", 3, 0)
    (tmp_path / "b" / "1.png").rename(tmp_path / "b" / "1.jpg")
    assert [(x.name, y.name) for x, y in pairs_of(tmp_path / "a", tmp_path / "b")] == [
        ("0.png", "0.png"), ("1.png", "1.jpg")
    ]  # fmt: skip
    with pytest.raises(SteerError, match=r"image .*2\.png has no counterpart 2 in"):
        pairs_of(tmp_path / "b", tmp_path / "a")


def write_junk(place: Path) -> None:
    pictures(place / "a", 2, 0)
    pictures(place / "one", 1, 0)
    pictures(place / "wide", 2, 0, (30, 10))
    (place / "empty").mkdir()
    (place / "junk.pth").write_bytes(b"junk")
    np.savez(place / "small.npz", mu=np.zeros(3), sigma=np.zeros((3, 3)))
    torch.save({"features.0.weight": torch.zeros(2)}, place / "other.pth")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["fid", "nowhere", "--reference", "a"], "nowhere is no folder; expected one with images"),
        (["fid", "empty", "--reference", "a"], "folder empty: found no image"),
        (["fid", "a", "--reference", "small.npz"], "small.npz is no file of statistics (shapes (3,) and (3, 3))"),
        (["fid", "a", "--reference", "none.npz"], "none.npz is no file of statistics"),
        (["fid", "a", "--reference", "a", "--weights", "junk.pth"], "junk.pth"),
        (["fid", "a", "--reference", "a", "--weights", "other.pth"], "weights in other.pth are not those of"),
        (["kid", "a", "--reference", "nowhere"], "reference nowhere is no folder"),
        (["cmmd", "a", "--reference", "a", "--clip", "nothing"], "nothing"),
        (["lpips", "a", "--reference", "one"], "has no counterpart"),
        (["lpips", "a", "--reference", "a", "--net", "other.pth", "--heads", "other.pth"], "are not those of LPIPS"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line(steer, place: Path, arguments: list[str], problem: str) -> None:
    write_junk(place)
    assert problem in steer("measure", *arguments).error()


def test_weights_that_are_not_there_are_named_with_the_command(steer, place: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(place / "assets"))
    pictures(place / "a", 2, 0)
    message = steer("measure", "fid", "a", "--reference", "a").error()
    assert "toshas/torch-fidelity" in message and "--weights" in message
