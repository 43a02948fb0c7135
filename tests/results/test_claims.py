"""Folders of one's own, and nothing of an earlier run replaced unasked: by every command that writes into ``--out``."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import processes
from support.commands import Steer

from steer import Sampler
from steer.cli.parts.folders import default_out
from steer.errors import SteerError
from steer.results.claims import claimed, new_folder
from steer.results.storage import storage_at

SMALL = ["--steps", 1, "--guidance", 1]


@pytest.mark.slow
def test_folders_are_made_for_one_alone(tmp_path: Path) -> None:
    start, made = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        with new_folder(tmp_path / "outputs" / "now") as folder:
            made.append(folder)
            start.wait()

    for _ in range(20):
        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == len(set(made)) == 8
        assert not list(tmp_path.glob("*/*"))
        made.clear()


def test_an_empty_folder_goes_with_its_block_and_a_full_one_stays(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as first, new_folder(tmp_path / "a" / "b") as second:
        assert (first, second) == (str(tmp_path / "a" / "b"), str(tmp_path / "a" / "b-2"))
        Path(second, "x").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b-2", "x"]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for above, what in (("file", "a file"), ("link", "a link that leads nowhere"), ("link/c", "a link that leads")):
        with pytest.raises(SteerError, match=f"cannot be made: .* is {what}"), new_folder(tmp_path / above / "b"):
            pass
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("a")
    with new_folder(tmp_path / "link" / "c") as through:
        Path(through, "y").touch()
    assert (tmp_path / "a" / "c" / "y").exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "memory"])
def test_what_is_there_is_replaced_by_force_alone(tmp_path: Path, place: str) -> None:
    storage = storage_at(tmp_path / "out" if place == "folder" else "memory://claims")
    other = claimed(storage_at(storage.name), "x".__eq__, force=True)
    with claimed(storage, "x".__eq__, force=False), pytest.raises(SteerError, match="in use"), other:
        pass
    assert not (tmp_path / "out").exists()
    storage.write("x", b"1")
    with (
        pytest.raises(SteerError, match="holds x of an earlier run; add --force"),
        claimed(storage, "x".__eq__, force=False),
    ):
        pass
    with ExitStack() as stack:
        stack.enter_context(claimed(storage, "y".__eq__, force=False))
    with claimed(storage, "x".__eq__, force=True):
        assert storage.read("x") == b"1"
    assert set(storage.sizes()) == {"x"}


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_saved_result_replaces_an_earlier_one_by_force_alone(tiny_pipe: Any, tmp_path: Path) -> None:
    sampler = Sampler(tiny_pipe)
    first, second = (sampler.generate(text, steps=1, guidance_scale=1) for text in ("a red circle", "a blue square"))
    assert first.save(tmp_path / "out") == str(tmp_path / "out")
    before = _files(tmp_path / "out")
    for again in (first, second):
        with pytest.raises(SteerError, match=r"holds .* of an earlier run; add --force"):
            again.save(tmp_path / "out")
    assert _files(tmp_path / "out") == before
    second.save(tmp_path / "out", force=True)
    assert len(list((tmp_path / "out").glob("*-000.png"))) == 1
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / "run.toml").write_text("")
    with pytest.raises(SteerError, match=r"holds a run\.toml of steer render"):
        first.save(tmp_path / "rendered", force=True)


@pytest.mark.slow
def test_generate_replaces_its_own_run_and_no_other_file(steer: Steer, tiny: Path, place: Path) -> None:
    first = ["generate", "a red circle", "a blue square", "-m", tiny, *SMALL, "--baseline", "--out", "out"]
    assert steer(*first).code == 0
    (place / "out" / "holiday-001.png").write_bytes(b"mine")
    before = _files(place / "out")
    other = ["generate", "a green disc", "-m", tiny, *SMALL, "--out", "out"]
    assert "output folder out holds compare.png and 4 more of an earlier run; add --force" in steer(*other).error()
    assert "reward" in steer(*other, "--force", "-r", "./rewards.py:raises").error()  # after a failure all is as it was
    assert _files(place / "out") == before
    assert steer(*other, "--force").code == 0
    after = _files(place / "out")
    assert after["holiday-001.png"] == b"mine"
    kept = {
        row["file"]
        for row in json.loads(steer("score", "out", "-r", "./rewards.py:brightness", "--json", "--prompt", "").out)[
            "rows"
        ]
    }
    assert len(kept) == 1 and not any(name.startswith("plain/") for name in after)


@pytest.mark.slow
@pytest.mark.parametrize("there", ["render", "compare", "generate"])
def test_a_folder_of_another_command_is_refused(steer: Steer, tiny: Path, place: Path, there: str) -> None:
    mark = {"render": "journal.jsonl", "compare": "compare.json", "generate": "result.json"}[there]
    (place / "out").mkdir()
    (place / "out" / mark).write_text("{}\n")
    (place / "p.txt").write_text("".join(f"a red circle {n}\n" for n in range(6)))
    rewards = ["-r", "./rewards.py:brightness"]
    commands = {
        "generate": ["generate", "a red circle", "--force"],
        "render": ["render", "p.txt"],
        "compare": ["compare", "p.txt", *rewards, "--judge", "jpeg", "--method", "plain"],
    }
    for name in commands.keys() - {there}:
        told = steer(*commands[name], "-m", tiny, *SMALL, "--out", "out").error()
        assert f"holds a {mark}" in told, (name, told)
    assert _files(place / "out") == {mark: b"{}\n"}


@pytest.mark.slow
def test_other_commands_replace_their_files_by_force_alone(steer: Steer, tiny: Path, place: Path) -> None:
    (place / "one.jsonl").write_text('{"prompt": "a red circle", "id": "x"}')
    assert steer("generate", "-f", "one.jsonl", "-m", tiny, *SMALL, "--out", "made").code == 0
    Image.new("RGB", (16, 16), "red").save(place / "photo.png")
    for words in (
        ["replay", "made/x-000.png", "--out", "out"],
        ["segment", "photo.png", "--steps", 1, "--draws", 1, "--out", "out"],
        ["classify", "photo.png", "--steps", 1, "--draws", 1, "--out", "out"],
        ["check", "reward", "./rewards.py:brightness", "--out", "out"],
    ):
        code = steer(*words).code
        assert code in (0, 1) and (place / "out").is_dir(), words
        before = _files(place / "out")
        told = steer(*words).error()
        assert "output folder out holds" in told and "--force" in told, words
        assert _files(place / "out") == before
        assert steer(*words, "--force").code == code, words
    assert "output folder made holds" in steer("replay", "made/x-000.png", "--out", "made").error()


def test_without_out_an_error_leaves_nothing(steer: Steer, place: Path) -> None:
    steer("generate", "a red circle", "-m", "./nowhere").error()
    assert not (place / "outputs").exists()


@pytest.mark.parametrize("out", [None, "same"])
def test_eight_at_once(tiny: Path, place: Path, out: str | None) -> None:
    words = ["-m", tiny, *SMALL, *(["--out", out] if out else [])]
    running = [
        processes.start(["generate", f"a red circle {number}", *words], place, f"{number}.txt") for number in range(8)
    ]
    for one in running:
        one.join(timeout=300)
    done = [number for number, one in enumerate(running) if one.exitcode == 0]
    results = sorted(place.glob("*/*/result.json" if out is None else "same/result.json"))
    made = [json.loads(path.read_text())["items"][0]["prompt"] for path in results]
    assert sorted(made) == [f"a red circle {number}" for number in done]
    assert len(done) == (8 if out is None else 1)
    for number in set(range(8)) - set(done):
        (told,) = (place / f"{number}.txt").read_text().splitlines()
        assert "output folder same is in use by" in told or "output folder same holds" in told
    for path in results:
        assert len(list(path.parent.glob("*-000.png"))) == 1


def test_a_dry_run_names_a_folder_that_is_free(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "now")
    assert default_out(make=False) == "outputs/now"
    (place / "outputs" / "now").mkdir(parents=True)
    assert default_out(make=False) == "outputs/now-2"
