"""Folder, file, hub id or none of them: told in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from steer.models.downloads.source import Source


@pytest.mark.parametrize(
    ("name", "plain", "bare"),
    [
        ("org/name", True, True),
        ("gpt2", False, True),
        ("", False, False),
        ("./folder", False, False),
        ("/folder", False, False),
        ("~/folder", False, False),
        ("org/name/file", False, False),
        ("text:org/name", False, False),
    ],
)
def test_names_that_the_hub_can_have(name: str, plain: bool, bare: bool) -> None:
    source = Source(name)
    assert (source.like_an_id(), source.like_an_id(bare=True)) == (plain, bare)
    assert source.like_a_path == name.startswith((".", "/", "~"))


def test_what_is_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    folder, file, neither = Source("~/folder"), Source("~/file"), Source("org/name")
    assert folder.path == folder.folder == tmp_path / "folder" and folder.place == str(tmp_path / "folder")
    assert file.path == tmp_path / "file" and file.folder is None
    assert neither.path is None and neither.folder is None and neither.place == "org/name"
    assert Source("").path is None
