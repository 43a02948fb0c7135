"""Files and folders of a training are whole, or told in one line."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from steer.errors import SteerError
from steer.registry.plugins import Plugins
from steer.testing.scaffold import create
from steer.training import RunFolder, replaced_folder
from steer.training.log import Log


@contextmanager
def no_room(most: int) -> Iterator[None]:
    """Refuse to write files of more than ``most`` bytes, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_finds_no_room_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replaced_folder(target) as folder:
        (folder / "a").write_text("old")
    for write in (
        lambda folder: (folder / "a").write_bytes(b"x" * 10_000),
        lambda folder: save_file({"a": torch.zeros(10_000)}, folder / "a"),
    ):
        told = pytest.raises(SteerError, match=r"model cannot be written \(.*; make room, or choose")
        with no_room(1000), told, replaced_folder(target) as folder:
            write(folder)
        assert (target / "a").read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_log_and_a_new_package_that_find_no_room_are_told(tmp_path: Path) -> None:
    log = Log(RunFolder(tmp_path / "run", resume=False), first=0)
    log.note(1, loss=1.0)
    with no_room(10):
        with pytest.raises(SteerError, match=r"log\.jsonl cannot be written \("):
            log.note(2, loss=1.0)
        with pytest.raises(SteerError, match=r"steer-mine cannot be written \("):
            create("reward", "mine", tmp_path / "new", Plugins())
    assert not list((tmp_path / "new").iterdir())
