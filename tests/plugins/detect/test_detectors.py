"""Detectors at tiny random size: the real classes of transformers, against their own post-processing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.tiny_detectors import grounding_dino_folder, mask2former_folder, owlv2_folder
from torch import Tensor

from steer import SteerError
from steer.plugin import pictures
from steer_detect.detectors.detector import Detector, load
from steer_detect.detectors.mask2former import instances
from steer_detect.detectors.named import spans
from steer_detect.rewards import KINDS

CPU = torch.device("cpu")
NAMES = ("dog", "hot dog", "tv")
FOLDERS = {"mask2former": mask2former_folder, "owlv2": owlv2_folder, "grounding-dino": grounding_dino_folder}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {name: write(root / name) for name, write in FOLDERS.items()}


@pytest.fixture(scope="module")
def images() -> Tensor:
    images = torch.rand(3, 3, 48, 72, generator=torch.Generator().manual_seed(0))
    images[1, :, 10:30, 20:50] = torch.tensor([1.0, 0, 0])[:, None, None]
    return images


def names_of(name: str) -> tuple[str, ...]:
    return ("dog", "couch", "tv", "circle") if name == "mask2former" else NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_an_image_has_the_same_objects_alone_and_in_a_batch(
    folders: dict[str, Path], images: Tensor, name: str
) -> None:
    wanted = names_of(name)
    together = load(folders[name], CPU, KINDS).find(images, [wanted, wanted[:2], wanted])
    for row, asked in enumerate([wanted, wanted[:2], wanted]):
        fresh = load(folders[name], CPU, KINDS)
        fresh._seen.clear()
        (alone,) = fresh.find(images[row : row + 1], [asked])
        assert alone and [one.name for one in alone] == [one.name for one in together[row]]
        assert [one.score for one in alone] == pytest.approx([one.score for one in together[row]], abs=1e-4)
        assert {one.name for one in alone} <= set(asked)
        for one in alone:
            left, top, right, bottom = one.box
            assert 0 <= left <= right <= 72 and 0 <= top <= bottom <= 48 and 0 < one.score <= 1
            assert one.mask is None or one.mask.shape == (bottom - top, right - left)


def test_detections_are_kept_for_the_next_reward(folders: dict[str, Path], images: Tensor, monkeypatch) -> None:
    detector = load(folders["owlv2"], CPU, KINDS)
    assert load(folders["owlv2"], CPU, KINDS) is detector
    first = detector.find(images, [NAMES] * 3)
    monkeypatch.setattr(detector, "detect", lambda *_: pytest.fail("detected again"))
    assert detector.find(images.clone(), [NAMES] * 3) == first


@pytest.mark.slow
def test_masks_and_scores_of_mask2former_are_transformers_own(folders: dict[str, Path], images: Tensor) -> None:
    detector = load(folders["mask2former"], CPU, KINDS)
    inputs = detector.processor(images=pictures(images), return_tensors="pt")
    with torch.no_grad():
        out = detector.model(**inputs)
    side = 384  # transformers scales masks to this before it scores them
    process = detector.processor.post_process_instance_segmentation
    theirs = process(out, threshold=0.06, target_sizes=[(side, side)] * 3, return_binary_maps=True)
    for row, expected in enumerate(theirs):
        every = {label: [""] for label in detector.model.config.id2label}
        mine = instances(out.class_queries_logits[row], out.masks_queries_logits[row], (side, side), every)
        scores = {(label, round(score, 4)): (box, mask) for label, score, box, mask in mine}
        assert len(expected["segments_info"]) > 2
        for segment, mask in zip(expected["segments_info"], expected["segmentation"], strict=True):
            (left, top, right, bottom), found = scores[segment["label_id"], round(segment["score"], 4)]
            part = mask[int(top) : int(bottom), int(left) : int(right)].bool()
            assert torch.equal(part, torch.from_numpy(found)) and part.sum() == mask.sum()


@pytest.mark.slow
def test_boxes_and_scores_of_owlv2_are_transformers_own(folders: dict[str, Path], images: Tensor) -> None:
    detector = load(folders["owlv2"], CPU, KINDS)
    queries = [[f"a photo of a {name}" for name in NAMES]] * 3
    inputs = detector.processor(text=queries, images=pictures(images), return_tensors="pt", truncation=True)
    with torch.no_grad():
        out = detector.model(**inputs)
    process = detector.processor.post_process_grounded_object_detection
    theirs = process(out, threshold=0.05, target_sizes=[(48, 72)] * 3, text_labels=[list(NAMES)] * 3)
    for expected, mine in zip(theirs, detector.find(images, [NAMES] * 3), strict=True):
        edges = expected["boxes"].clamp(min=0).minimum(torch.tensor([72.0, 48, 72, 48]))
        inside = (edges[:, :2] < edges[:, 2:]).all(dim=1)  # the others are in the padding
        names = [name for name, there in zip(expected["text_labels"], inside.tolist(), strict=True) if there]
        assert [one.name for one in mine] == names and 0 < len(names) < len(edges)
        assert [one.score for one in mine] == pytest.approx(expected["scores"][inside].tolist(), abs=1e-5)
        assert torch.allclose(torch.tensor([one.box for one in mine]), edges[inside], atol=1e-3)


@pytest.mark.slow
def test_grounding_dinos_names_score_as_their_best_tokens(folders: dict[str, Path], images: Tensor) -> None:
    detector = load(folders["grounding-dino"], CPU, KINDS)
    inputs = detector.processor(images=pictures(images), text=["dog. hot dog. tv."] * 3, return_tensors="pt")
    with torch.no_grad():
        out = detector.model(**inputs)
    words = detector.processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert [words[span] for span in spans(inputs["input_ids"][0].tolist(), words_id(detector, "."), 3)] == [
        ["dog"], ["hot", "dog"], ["tv"],
    ]  # fmt: skip
    process = detector.processor.post_process_grounded_object_detection
    theirs = process(out, threshold=0.05, target_sizes=[(48, 72)] * 3)
    for row, (expected, mine) in enumerate(zip(theirs, detector.find(images, [NAMES] * 3), strict=True)):
        assert mine
        best = out.logits[row].sigmoid()[:, : len(words)]
        for one in mine:
            tokens = [place for place, word in enumerate(words) if word in one.name.split()]
            assert float((best[:, tokens] - one.score).abs().min()) < 1e-5
            center = torch.tensor(one.box).reshape(2, 2).mean(dim=0)
            edges = expected["boxes"].clamp(min=0).minimum(torch.tensor([72.0, 48, 72, 48])).reshape(-1, 2, 2)
            assert float((edges.mean(dim=1) - center).abs().sum(dim=1).min()) < 1e-2


def words_id(detector: Detector, word: str) -> int:
    return int(detector.processor.tokenizer.convert_tokens_to_ids(word))


def test_fixed_classes_are_known_by_their_other_names_and_others_are_refused(folders: dict[str, Path]) -> None:
    detector = load(folders["mask2former"], CPU, KINDS)
    detector.check(["tv", "TV monitor", "couch", "sofa", "Dog"])
    with pytest.raises(
        SteerError, match=r"does not know 'dig' — did you mean 'dog'.*knows 8 classes\. owlv2 and grounding"
    ):
        detector.check(["dig"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["BertModel"]}, "unknown detector in .*: 'BertModel'.*known: Ground"),
        ({"architectures": 3}, "unknown detector in .*: '3'"),
        ({"text_config": 3}, "is not a detector that transformers can load"),
        ({"projection_dim": 24}, "the weights in .* do not fit the model: .* of another shape"),
    ],
)  # fmt: skip
def test_folders_that_are_no_detectors(folders: dict[str, Path], tmp_path: Path, change: dict, message: str) -> None:
    shutil.copytree(folders["owlv2"], tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    config.update(change)
    (tmp_path / "x" / "config.json").write_text(json.dumps(config))
    with pytest.raises(SteerError, match=message) as caught:
        load(tmp_path / "x", CPU, KINDS)
    assert "\n" not in str(caught.value)
    with pytest.raises(SteerError, match=r"has no config.json; expected a detector in transformers' format"):
        load(tmp_path, CPU, KINDS)
