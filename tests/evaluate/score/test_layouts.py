"""``steer score`` on the folders of benchmarks and of training data: which images, and which prompts."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from steer.errors import SteerError
from steer.evaluate.score.images import find_images, read_image
from steer.evaluate.score.layouts import prompt_in_name
from steer.evaluate.score.prompts import PromptSource, check_prompts
from steer.prompts.pictures.opening import ImageError, opened_image
from steer.settings.folders import files_in

GENEVAL = Path(__file__).parent / "data" / "geneval"


def save(path: Path, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, **more)
    return path


def prompts(folder: Path, **options) -> dict[str, str]:
    """What ``steer score FOLDER`` would score: prompts by the images' names."""
    source = PromptSource(roots=[folder], **options)
    paths = find_images([folder])
    check_prompts(paths, source)
    return {path.relative_to(folder).as_posix(): str(source.of(path, {})) for path in paths}


def test_genevals_folder(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GENEVAL, tmp_path / "geneval"))
    save(folder / "00000" / "grid.png")
    bench, cow = "a photo of a bench", "a photo of a cow"
    right = {f"0000{i}/samples/000{j}.png": text for i, text in enumerate((bench, cow)) for j in range(2)}
    assert prompts(folder) == right
    source = PromptSource(roots=[folder])
    check_prompts(find_images([folder]), source)
    assert source.inferred() == "metadata.jsonl above samples (GenEval): 4"
    one = folder / "00001" / "samples" / "0000.png"
    assert PromptSource(roots=[one]).of(one, {}) == cow  # a file by its name, too


def test_genevals_folder_by_the_command(steer, tmp_path: Path) -> None:
    shutil.copytree(GENEVAL, tmp_path / "geneval")
    code, out, err = steer("geneval", "-r", "./rewards.py:words", "--json", "--device", "cpu")
    assert code == 0 and [row["prompt"] for row in json.loads(out)["rows"]] == [
        "a photo of a bench", "a photo of a bench", "a photo of a cow", "a photo of a cow",
    ]  # fmt: skip
    assert err == "steer: files with prompts by metadata.jsonl above samples (GenEval): 4\n"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("samples/a red book and a blue vase_000012.png", "a red book and a blue vase"),
        ("samples/a_red_book_000012.png", "a red book"),
        ("samples/snake_case here_000012.png", "snake_case here"),
        ("samples/IMG_000123.png", None),
        ("samples/DSC_20240101_000123.jpg", None),
        ("samples/ComfyUI_000001_.png", None),
        ("samples/step_1000_final_000123.png", None),
        ("samples/a red book_0012.png", None),
        ("other/a red book_000012.png", None),
        ("samples/_000012.png", None),
    ],
)
def test_t2i_compbenchs_names(name: str, right: str | None) -> None:
    found = prompt_in_name(Path(name))
    assert (found and found[0]) == right


def test_captions_beside_images(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(tmp_path / "x" / f"{name}.png")
    (tmp_path / "x" / "a.txt").write_text("\ufeffa red circle\n", encoding="utf-8")
    (tmp_path / "x" / "b.txt").write_bytes("ein grüner Kreis".encode("utf-16"))
    (tmp_path / "x" / "c.caption").write_text("a blue circle")
    (tmp_path / "x" / "d.txt").write_text("a dot\nNegative prompt: a dog\nSteps: 20, Sampler: Euler")  # A1111's
    found = prompts(tmp_path)
    assert list(found.values()) == ["a red circle", "ein grüner Kreis", "a blue circle", "a dot"]


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.1 0.2", '{"a": "b"}', " ", "log\n" * 50_000])
def test_other_texts_beside_images_are_no_captions(tmp_path: Path, text: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(SteerError, match=r"a\.png has no prompt"):
        prompts(tmp_path)


def test_a_folder_of_texts_by_name(tmp_path: Path) -> None:
    save(tmp_path / "made" / "partiprompts1.png")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "partiprompts1.txt").write_text("a red circle")
    assert prompts(tmp_path / "made", metadata=tmp_path / "prompts") == {"partiprompts1.png": "a red circle"}
    with pytest.raises(SteerError, match=r"holds no \.txt file"):
        prompts(tmp_path / "made", metadata=tmp_path / "made")


def test_imagefolders(tmp_path: Path) -> None:
    save(tmp_path / "d" / "train" / "0.png")
    (tmp_path / "d" / "metadata.jsonl").write_text('{"file_name": "train/0.png", "text": "a red circle"}')
    (tmp_path / "metadata.jsonl").write_text("above the folder that was named: not read")
    assert prompts(tmp_path / "d") == {"train/0.png": "a red circle"}
    (tmp_path / "d" / "metadata.jsonl").unlink()
    (tmp_path / "d" / "train" / "metadata.csv").write_text('\ufefffile_name,text\r\n0.png,"a ""red"", circle"\r\n')
    assert prompts(tmp_path / "d") == {"train/0.png": 'a "red", circle'}
    assert prompts(tmp_path / "d", metadata=tmp_path / "d" / "train" / "metadata.csv") == prompts(tmp_path / "d")
    (tmp_path / "d" / "train" / "metadata.csv").write_text("file_name,label\n0.png,cat\n")
    with pytest.raises(SteerError, match="has no prompt"):
        prompts(tmp_path / "d")


@pytest.mark.parametrize(
    "table",
    [
        "file_name;prompt\n0.png;a red circle\n",
        "sep=;\nfile_name;prompt\n0.png;a red circle\n",
        "File_Name,Prompt,caption\n0.png,a red circle,\n",
        "file_name,prompt,caption\n0.png,,a red circle\n",
        "file_name\tprompt\n0.png\ta red circle\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_beside_images_are_read_as_prompt_files_are(tmp_path: Path, table: str, encoding: str) -> None:
    save(tmp_path / "d" / "0.png")
    (tmp_path / "d" / "metadata.csv").write_text(table, encoding=encoding)
    assert prompts(tmp_path / "d") == {"0.png": "a red circle"}
    assert prompts(tmp_path / "d", metadata=tmp_path / "d" / "metadata.csv") == {"0.png": "a red circle"}
    renamed = (tmp_path / "d" / "metadata.csv").rename(tmp_path / "d" / "m.tsv")
    assert prompts(tmp_path / "d", metadata=renamed) == {"0.png": "a red circle"}


def test_two_prompts_for_one_image_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "d" / "0.png")
    rows = ['{"file_name": "0.png", "prompt": "a red circle"}', '{"file_name": "./0.png", "prompt": "a blue one"}']
    (tmp_path / "d" / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(SteerError, match=r"line 2: './0.png' has another prompt above, 'a red circle'; keep one"):
        prompts(tmp_path / "d")
    for name in ("a", "b"):
        (tmp_path / "t" / name).mkdir(parents=True)
        (tmp_path / "t" / name / "0.txt").write_text(name)
    with pytest.raises(SteerError, match="holds several texts named '0'"):
        prompts(tmp_path / "d", metadata=tmp_path / "t")


def test_an_images_own_prompt_and_why_it_has_none(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    graph = {str(i): {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}}
             for i, text in ((1, "one"), (2, "two"))}  # fmt: skip
    join = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["1", 0], "conditioning_2": ["2", 0]}}
    sampler = {"class_type": "KSampler", "inputs": {"positive": ["3", 0], "negative": ["1", 0]}}
    info.add_text("prompt", json.dumps({**graph, "3": join, "5": sampler}))
    save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(SteerError, match=r"a\.png has no prompt \(ComfyUI: its graph holds 2 different positive"):
        prompts(tmp_path)


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    kept = [save(tmp_path / name) for name in ("a.png", "sub/b.JPG")]
    for name in (".ipynb_checkpoints/a.png", ".thumbnails/a.png", "__MACOSX/a.png", "sub/._b.jpg", ".c.png"):
        save(tmp_path / name)
    for name in ("Thumbs.db", ".DS_Store", "sub/notes.txt"):
        (tmp_path / name).write_text("x")
    assert find_images([tmp_path]) == files_in(tmp_path, [".png", ".jpg"]) == kept
    assert files_in(tmp_path, [".png", ".jpg"], below=False) == kept[:1]
    assert find_images([tmp_path / ".thumbnails"]) == [tmp_path / ".thumbnails" / "a.png"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC; install pillow-heif"),
        (b"\xff\x0a" + b"\0" * 20, "JPEG XL; install pillow-jxl-plugin"),
        (b"GIF89a", "not a PNG"),
    ],
)
def test_formats_that_need_a_package_are_told(tmp_path: Path, data: bytes, reason: str) -> None:
    if reason.startswith("HEIC"):
        try:
            import pillow_heif  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("HEIC can be read here")
    file = tmp_path / "a.heic"
    file.write_bytes(data)
    assert find_images([tmp_path]) == [file]
    with pytest.raises(ImageError, match=reason):
        read_image(file)


def test_avif_is_read(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.avif")).pixels.shape == (3, 8, 8)
    with pytest.raises(ImageError, match=r"^mask a cannot be read"), opened_image(b"x", "mask a"):
        pass
