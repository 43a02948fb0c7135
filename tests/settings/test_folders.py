"""One walk through folders for all commands: what systems leave behind is passed over."""

from pathlib import Path

from steer.render.page.collect import find_runs
from steer.results.storage import storage_at
from steer.settings.folders import files_in

ROOT = Path(__file__).resolve().parents[2]


def test_files_come_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    names = ("b/1.PNG", "a.png", "b/.x/2.png", ".y/3.png", "__MACOSX/4.png", "b/._1.png", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert files_in(tmp_path, [".png"]) == [tmp_path / "a.png", tmp_path / "b" / "1.PNG"]
    assert files_in(tmp_path, [".png"], below=False) == [tmp_path / "a.png"]
    assert files_in(tmp_path / ".y", [".png"]) == [tmp_path / ".y" / "3.png"]
    assert files_in(tmp_path / "gone", [".png"]) == []


def test_the_page_shows_no_hidden_run(tmp_path: Path) -> None:
    for name in ("", "a", ".ipynb_checkpoints", "a/.old", "__MACOSX/a"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "result.json").write_text("{}")
    assert [run.folder for run in find_runs(storage_at(str(tmp_path)))] == ["", "a"]


def test_nothing_else_walks_through_images() -> None:
    walks = [
        file.relative_to(ROOT).as_posix()
        for folder in ("steer", "plugins")
        for file in (ROOT / folder).rglob("*.py")
        if any(sign in file.read_text(encoding="utf-8") for sign in (".rglob(", "os.walk("))
    ]
    # sizes are added up; the hub's cache holds what was fetched; a storage lists what steer wrote
    others = ["steer/cli/download.py", "steer/models/downloads/hub.py", "steer/results/storage/local.py"]
    assert sorted(walks) == [*others, "steer/settings/folders.py"]
