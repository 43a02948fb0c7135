"""``steer score``: which images, which prompts, hostile files, resuming, output."""

from __future__ import annotations

import csv
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin

from steer.errors import SteerError
from steer.evaluate.score.files import FileError
from steer.evaluate.score.images import find_images, read_image
from steer.evaluate.score.prompts import PromptSource, needs_prompt, read_metadata
from steer.evaluate.score.rows import Row, read_rows
from steer.evaluate.score.score import score_files
from steer.prompts.pictures.opening import ImageError
from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum
from steer.rewards.reward import Reward


def save(path: Path, gray: int = 128, size: tuple[int, int] = (8, 8), **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (gray,) * 3).save(path, **more)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that claims 100000x100000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def test_folders_are_searched_and_each_image_comes_once(tmp_path: Path) -> None:
    b, a = save(tmp_path / "sub" / "b.JPG"), save(tmp_path / "a.webp")
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images([tmp_path, a]) == [a, b]
    with pytest.raises(SteerError, match="found no image"):
        find_images([(tmp_path / "empty").mkdir() or tmp_path / "empty"])
    with pytest.raises(SteerError, match="does not exist"):
        find_images([tmp_path / "gone.png"])


def test_pixels_are_what_a_viewer_shows(tmp_path: Path) -> None:
    wrong_suffix = save(tmp_path / "png.png").rename(tmp_path / "named.jpg")
    assert torch.allclose(read_image(wrong_suffix).pixels, torch.full((3, 8, 8), 128 / 255))
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").pixels.eq(1).all()
    Image.fromarray(torch.full((2, 2), 32768, dtype=torch.int32).numpy().astype("uint16")).save(tmp_path / "deep.png")
    assert torch.allclose(read_image(tmp_path / "deep.png").pixels, torch.full((3, 2, 2), 0.5), atol=1e-4)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    save(tmp_path / "turned.jpg", size=(8, 16), exif=exif)
    assert read_image(tmp_path / "turned.jpg").pixels.shape == (3, 8, 16)


def test_hostile_files_are_refused_by_name(tmp_path: Path) -> None:
    noise = torch.randint(0, 255, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    bomb(tmp_path / "bomb.png")
    for name, reason in (
        ("cut.png", "truncated"), ("text.png", "not a PNG"), ("empty.jpg", "not a PNG"),
        ("bomb.png", "10000000000 pixels"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=rf"{name}.*{reason}") as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)


def test_prompts_come_from_the_place_that_is_nearest(tmp_path: Path) -> None:
    image = save(tmp_path / "in" / "0.png")
    recipe = {"steer": json.dumps({"prompt": {"text": "from the recipe", "id": "x", "category": "color"}})}
    a1111 = {"parameters": "two lines\nof prompt\nNegative prompt: none\nSteps: 3"}
    assert PromptSource().of(image, a1111) == "two lines\nof prompt"
    found = PromptSource().of(image, {**a1111, **recipe})
    assert (found, found.id, found.category) == ("from the recipe", "x", "color")
    (tmp_path / "in" / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "beside", "category": "size"}\n')
    assert PromptSource().of(image, recipe) == "beside"
    (tmp_path / "named.jsonl").write_text('{"file_name": "in/0.png", "prompt": "named", "extra": 1}\n')
    found = PromptSource(metadata=tmp_path / "named.jsonl").of(image, recipe)
    assert (found, found.metadata) == ("named", {"extra": 1})
    assert PromptSource(prompt="given").of(image, recipe) == "given"


def test_a_missing_prompt_names_the_image_unless_none_is_needed(tmp_path: Path) -> None:
    image = save(tmp_path / "lonely.png")
    with pytest.raises(SteerError, match=r"lonely\.png has no prompt; give --prompt TEXT for all, or --metadata"):
        PromptSource().of(image, {})
    assert PromptSource(needed=False).of(image, {}) == ""
    assert PromptSource(needed=False).of(image, {"steer": "[1", "parameters": ""}) == ""


def test_a_missing_prompt_is_found_before_the_first_image_is_scored(steer, tmp_path: Path) -> None:
    from steer.registry.local_files import load_module

    for name in ("a", "b"):
        save(tmp_path / "pics" / f"{name}.png", pnginfo=_parameters("a prompt"))
    (tmp_path / "pics" / "c.png").write_text("no image, and not at fault")
    save(tmp_path / "pics" / "d.png")
    code, out, err = steer("pics", "-r", "./rewards.py:words", "--batch", "1", "--out", "scores.jsonl")
    assert (code, out) == (2, "") and err.count("\n") == 1 and "d.png has no prompt" in err
    assert not (tmp_path / "scores.jsonl").exists() and load_module("rewards.py").calls == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "expected"),
        ('{"file_name": "a", "words": "b"}', 'expected .*"prompt": "a red circle"}; its keys are file_name, words'),
        ('{"file_name": 1, "text": "a"}', "expected"),
        ('{"file_name": "a\\u0000", "text": "a"}', "expected"),
        ('{"file_name": "a", "text": "\\ud800"}', "not Unicode"),
    ],
)
def test_bad_metadata_names_the_line(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"file_name": "a", "text": "b"}\n' + line)
    with pytest.raises(SteerError, match=f"line 2: .*{said}|line 2: {said}"):
        read_metadata(file)


def test_metadata_by_any_key_with_any_mark(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('\ufeff{"file_name": "a", "Caption": "b", "score": NaN, "words": "c"}\n', encoding="utf-16")
    (found,) = read_metadata(file).values()
    assert (found, found.metadata) == ("b", {"score": None, "words": "c"})
    assert list(read_metadata(file, "words").values()) == ["c"]


def test_sizes_do_not_mix_in_a_batch_and_errors_stop_nothing(tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    def bright(samples, prompts):
        sizes.append(tuple(samples.shape))
        return samples.mean(dim=(1, 2, 3))

    paths = [save(tmp_path / f"{i}.png", gray=i, size=(8, 8) if i % 2 else (8, 4)) for i in range(6)]
    paths.insert(3, tmp_path / "bad.png")
    paths[3].write_text("no")
    out = list(score_files(paths, {"bright": WeightedSum([("bright", 1.0, bright)])}, PromptSource("x"), batch=2))
    assert sorted(sizes) == [(1, 3, 4, 8), (1, 3, 8, 8), (2, 3, 4, 8), (2, 3, 8, 8)]
    rows = {row.file: row.scores["bright"] for row in out if isinstance(row, Row)}
    assert [rows[str(p)] for p in paths if p != paths[3]] == pytest.approx([i / 255 for i in range(6)])
    assert sum(isinstance(row, FileError) for row in out) == 1


def test_the_command_scores_resumes_and_notices_changes(steer, tmp_path: Path) -> None:
    from steer.registry.local_files import load_module

    for i in range(3):
        save(tmp_path / "pics" / f"{i}.png", gray=50 * i)
    bright = ["pics", "-r", "./rewards.py:bright", "--prompt", "a b", "--out", "scores.jsonl", "--device", "cpu"]
    code, out, _ = steer(*bright, "--json")
    data = json.loads(out)
    assert code == 0
    assert [row["scores"]["./rewards.py:bright"] for row in data["rows"]] == pytest.approx([0, 50 / 255, 100 / 255])
    calls = load_module("rewards.py").calls
    assert calls == [3]
    file = tmp_path / "scores.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-20])  # killed in the middle of a line
    save(tmp_path / "pics" / "0.png", gray=200)  # another picture under the same name
    code, out, _ = steer(*bright, "--csv")
    assert code == 0
    assert calls == [3, 2]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [round(255 * float(row["./rewards.py:bright"])) for row in rows] == [200, 50, 100]
    assert len(read_rows(file)) == 3
    steer(*bright)
    assert calls == [3, 2]
    file.write_text(file.read_text().rstrip("\n"))  # an editor that leaves out the end of the last line
    steer(*bright)
    assert calls == [3, 2, 1] and len(read_rows(file)) == 3
    steer(*[{"a b": "another"}.get(a, a) for a in bright])
    assert calls == [3, 2, 1, 3]


def test_other_questions_to_the_same_prompt_are_scored_again(steer, tmp_path: Path) -> None:
    from steer.registry.local_files import load_module

    save(tmp_path / "pics" / "0.png")
    asked = ["pics", "-r", "./rewards.py:bright", "--out", "scores.jsonl", "--device", "cpu"]
    metadata = tmp_path / "pics" / "metadata.jsonl"
    for question in ("a?", "a?", "b?"):
        metadata.write_text(json.dumps({"file_name": "0.png", "text": "t", "questions": [question]}))
        assert steer(*asked)[0] == 0
    assert load_module("rewards.py").calls == [1, 1]


def test_a_reward_that_is_named_twice_is_made_once() -> None:
    from steer.registry.plugins import Plugins
    from steer.rewards.by_name import make_reward

    made: list[object] = []

    class Heavy(Reward):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            made.append(self)

        def __call__(self, samples, prompts):
            return samples.mean(dim=(1, 2, 3))

    plugins, shared = Plugins(), {}
    plugins.registry.reward("heavy", Heavy)
    for expression in ("heavy", "heavy:2+min(heavy@0..2,heavy)"):
        make_reward([expression], {}, plugins, torch.device("cpu"), shared)
    assert len(made) == 1


def test_file_names_that_are_no_text_go_into_csv(steer, tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    save(tmp_path / "pics" / "a.png").rename(tmp_path / "pics" / "b\udcff.png")
    code, out, _ = steer("pics", "-r", "./rewards.py:bright", "--prompt", "x", "--csv", "--device", "cpu")
    assert code == 0 and "b\\udcff.png" in out


def test_a_corrupt_image_is_reported_the_rest_scored_and_the_code_is_1(steer, tmp_path: Path) -> None:
    save(tmp_path / "pics" / "good.png", pnginfo=_parameters("one two three"))
    (tmp_path / "pics" / "bad.png").write_text("no")
    code, out, err = steer("pics", "-r", "./rewards.py:words", "--json")
    assert code == 1
    assert [row["scores"] for row in json.loads(out)["rows"]] == [{"./rewards.py:words": 3.0}]
    assert err.count("\n") == 1 and "bad.png cannot be read: not a PNG" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pics", "-r", "./rewards.py:words"], "good.png has no prompt"),
        (["pics", "-r", "shapes@15-35", "--prompt", "x"], "clip@15..35"),
        (["pics", "-r", "shpaes", "--prompt", "x"], "did you mean 'shapes'"),
        (["pics", "-r", "shapes", "--prompt", "x", "--json", "--csv"], "both --json and --csv"),
        (["pics", "-r", "shapes", "--prompt", "x", "--out", "rewards.py"], "line 1: not a line of scores"),
        (["pics", "-r", "shapes", "--prompt", "x", "-o", "clip.model=shapes"], "not active"),
        (["http://a.b/c.png?token=x", "-r", "shapes", "--prompt", "x"], "image http:/a.b/c.png is a URL; fetch it"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(steer, tmp_path: Path, arguments, message) -> None:
    save(tmp_path / "pics" / "good.png")
    rewards = (tmp_path / "rewards.py").read_text()
    code, out, err = steer(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert (tmp_path / "rewards.py").read_text() == rewards


def test_prompts_keep_their_identity_on_the_way(tmp_path: Path) -> None:
    seen: list[Prompt] = []

    def spy(samples, prompts):
        seen.extend(prompts)
        return samples.mean(dim=(1, 2, 3))

    image = save(tmp_path / "0.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "t", "id": "i", "questions": ["q"]}')
    list(score_files([image], {"spy": WeightedSum([("spy", 1.0, spy)])}, PromptSource()))
    assert (seen[0].id, seen[0].metadata) == ("i", {"questions": ["q"]})


def _parameters(text: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    return info


def test_sheets_and_plots_of_an_output_folder_are_no_samples(tmp_path: Path) -> None:
    for name in ("a-000.png", "sheet.png", "compare.png", "traces/a.png", "mine/sheet.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "result.json").write_text("{}")
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a-000.png", "mine/sheet.png"]


def test_a_reward_may_have_an_attribute_of_the_name_that_combinations_use_for_their_parts() -> None:
    class Counting:
        needs_prompt = False

        def parts(self) -> int:
            return 2

    assert not needs_prompt(Counting())  # type: ignore[arg-type]
    assert needs_prompt(WeightedSum([("counting", 1.0, Counting()), ("other", 1.0, lambda samples, prompts: samples)]))
