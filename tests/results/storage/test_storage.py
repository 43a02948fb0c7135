"""Places for output: whole files or none, logs that survive a cut, one writer at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from steer.errors import SteerError
from steer.results.storage import LocalStorage, Storage, storage_at
from steer.results.storage import remote as remote_module
from steer.results.storage.base import StorageError
from steer.results.storage.remote import RemoteStorage


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "SETTLE_SECONDS", 0.05)


@pytest.fixture(params=["folder", "memory", "file", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A path and URLs; ``local`` is fsspec's own view of a folder, which moves files into place."""
    if request.param == "memory":
        name = f"memory://{uuid.uuid4().hex}"
        yield name
        fsspec.filesystem("memory").rm(name, recursive=True)
    else:
        yield {"folder": str(tmp_path / "a" / "b"), "file": f"file://{tmp_path}/a/b", "local": str(tmp_path / "a")}[
            request.param
        ]


@pytest.fixture
def storage(place: str, request: pytest.FixtureRequest) -> Storage:
    if "local]" in request.node.name:
        return RemoteStorage(fsspec.filesystem("file"), place, place)
    return storage_at(place)


def test_files_and_logs(storage: Storage) -> None:
    storage.check()
    assert storage.sizes() == {} and storage.read("x") is None and list(storage.lines("log.jsonl")) == []
    storage.write("images/x.png", b"one")
    storage.write("images/x.png", b"other")
    storage.remove("nothere")
    for number in range(3):
        storage.append("log.jsonl", f"{number}\n".encode())
    storage.sync()
    assert b"".join(storage.lines("log.jsonl")) == b"0\n1\n2\n"
    storage.append("log.jsonl", b"3\n4\n")
    storage.close()
    assert storage.sizes() == {"images/x.png": 5, "log.jsonl": 10}
    assert storage.sizes("images") == {"images/x.png": 5}
    assert storage.read("images/x.png") == b"other"
    assert list(storage.lines("log.jsonl")) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]
    assert storage.url("x") == f"{storage.name}/x"


def test_files_that_go_while_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a.png", b"x")
    storage.write("b.png", b"xx")
    walk = os.walk

    def slow(*args: Any, **kwargs: Any) -> Iterator[Any]:
        found = list(walk(*args, **kwargs))
        (tmp_path / "a.png").unlink()  # between the listing and the look at its size
        yield from found

    monkeypatch.setattr(os, "walk", slow)
    assert storage.sizes() == {"b.png": 2}


def test_one_writer_at_a_time(storage: Storage) -> None:
    with storage.lock():
        other = storage_at(storage.name) if isinstance(storage, LocalStorage) else storage
        with pytest.raises(SteerError, match=f"in use by process {os.getpid()} on .*; wait"), other.lock():
            pass
    with storage.lock():
        pass


def test_a_log_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"whole\n" + b"half" * 50_000)
    assert list(LocalStorage(tmp_path).lines("log")) == [b"whole\n"]
    storage = LocalStorage(tmp_path)
    storage.append("log", b"next\n")
    storage.close()
    assert (tmp_path / "log").read_bytes() == b"whole\nnext\n"
    (tmp_path / "log").write_bytes(b"half")
    storage.append("log", b"next\n")
    assert (tmp_path / "log").read_bytes() == b"next\n"


def test_a_remote_log_is_read_across_blocks_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "BLOCK_BYTES", 10)
    name = f"memory://{uuid.uuid4().hex}"
    first = storage_at(name)
    for number in range(20):
        first.append("log", f"line {number}\n".encode())
    # and is killed before it is closed
    assert len([n for n in first.sizes() if n.startswith("log.")]) > 5
    second = storage_at(name)
    second.append("log", b"line 20\n")
    second.close()
    assert set(second.sizes()) == {"log"}
    assert list(second.lines("log")) == [f"line {number}\n".encode() for number in range(21)]


def test_a_line_of_a_remote_log_is_there_at_once() -> None:
    name = f"memory://{uuid.uuid4().hex}"
    storage = storage_at(name)
    for seen in ([b"a\n"], [b"a\n", b"b\n"]):
        storage.append("log", seen[-1])
        assert list(storage_at(name).lines("log")) == seen  # as another process would see it
    assert set(storage.sizes()) == {"log.000001"}


def test_lines_that_cannot_be_written_to_a_remote_log_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_at(f"memory://{uuid.uuid4().hex}")
    storage.append("log", b"a\n")
    with monkeypatch.context() as patch:
        patch.setattr(fsspec.filesystem("memory"), "pipe_file", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(StorageError, match="full"):
            storage.append("log", b"b\n")
    storage.append("log", b"c\n")
    storage.close()
    assert storage.read("log") == b"a\nc\n" and set(storage.sizes()) == {"log"}


def test_the_lock_of_the_dead_is_free(tmp_path: Path) -> None:
    died = multiprocessing.get_context("fork").Process(target=_hold_and_die, args=(tmp_path,))
    died.start()
    died.join()
    assert died.exitcode == 9
    (tmp_path / ".x.png.abcd_123.part").write_text("half")
    with LocalStorage(tmp_path).lock():
        assert set(LocalStorage(tmp_path).sizes()) == {".lock", ".lock-owner"}


def _hold_and_die(folder: Path) -> None:
    lock = LocalStorage(folder).lock()
    lock.__enter__()
    os._exit(9)


@pytest.mark.parametrize(
    ("lock", "free"),
    [
        ({"process": 2**22 + 1, "host": os.uname().nodename, "time": 9e9}, True),  # no such process here
        ({"process": 1, "host": "elsewhere", "time": 9e9}, False),
        ({"process": 1, "host": "elsewhere", "time": 1.0}, False),  # nobody here can tell whether it lives
        ("no lock", True),
    ],
)
def test_remote_locks(lock: object, free: bool) -> None:
    storage = storage_at(f"memory://{uuid.uuid4().hex}")
    storage.write("lock.json", json.dumps(lock).encode())
    if free:
        with storage.lock():
            pass
    else:
        told = rf"process 1 on elsewhere \(if that has ended, remove {storage.name}/lock.json\)"
        with pytest.raises(SteerError, match=told), storage.lock():
            pass


@pytest.mark.slow
def test_of_two_that_take_a_remote_lock_at_once_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"memory://{uuid.uuid4().hex}"
    monkeypatch.setattr(remote_module, "SETTLE_SECONDS", 0.5)  # both have written by then
    looked = threading.Barrier(2, timeout=30)
    find = RemoteStorage._holder
    monkeypatch.setattr(RemoteStorage, "_holder", lambda self: (find(self), looked.wait())[0])
    outcomes: list[str] = []
    done = threading.Barrier(2, timeout=30)

    def take() -> None:
        try:
            with storage_at(name).lock():
                outcomes.append("held")
                done.wait()
        except SteerError as error:
            outcomes.append(str(error))
            done.wait()

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused, held = sorted(outcomes, key=len, reverse=True)
    assert held == "held" and "in use by another process that began at the same time" in refused


def test_a_claim_that_another_took_over_by_hand_stays() -> None:
    name = f"memory://{uuid.uuid4().hex}"
    storage, other = storage_at(name), storage_at(name)
    theirs = json.dumps({"process": 1, "host": "elsewhere", "time": time.time(), "token": "theirs"}).encode()
    with storage.lock():
        other.remove("lock.json")
        other.write("lock.json", theirs)
    assert other.read("lock.json") == theirs
    other.remove("lock.json")
    with storage.lock():
        storage.write("image.png", b"")
    assert set(storage.sizes()) == {"image.png"}


def test_places_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="ftpx://"):
        storage_at("ftpx://nowhere/run")
    (tmp_path / "file").write_text("")
    with pytest.raises(SteerError, match="is a file"):
        LocalStorage(tmp_path / "file").check()
    with pytest.raises(StorageError, match="cannot be written to"):
        LocalStorage(tmp_path / "file").write("x", b"")
    with pytest.raises(StorageError, match="cannot be written to"):
        LocalStorage(Path("/proc/nothere")).append("log", b"x\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_write_that_fails_half_way_leaves_no_half(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=_write_too_much, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert (tmp_path / "log").read_bytes() == b"a" * 599 + b"\n"
    assert LocalStorage(tmp_path).sizes() == {"log": 600}


def _write_too_much(folder: Path) -> None:
    """Append and write past a limit of the system's, which takes what fits and then fails, as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    storage = LocalStorage(folder)
    storage.append("log", b"a" * 599 + b"\n")
    for fails in (lambda: storage.append("log", b"b" * 599 + b"\n"), lambda: storage.write("image", b"c" * 2000)):
        try:
            fails()
        except StorageError as error:
            assert "File too large" in str(error)
        else:
            os._exit(3)
    os._exit(0)


def test_links_that_lead_nowhere_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    assert LocalStorage(tmp_path).sizes() == {"a": 1}


@pytest.mark.parametrize("target", ["precious", "nowhere", "/dev/null"])
def test_a_log_is_never_written_through_a_link(target: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("a line\nwithout an end")
    (tmp_path / "log").symlink_to(target)
    storage = LocalStorage(tmp_path)
    for touch in (lambda: storage.check_log("log"), lambda: storage.append("log", b"x\n")):
        with pytest.raises(SteerError, match=r"/log is a link or a device; remove it"):
            touch()
    assert {path.name for path in tmp_path.iterdir()} == {"log", "precious"}
    assert (tmp_path / "precious").read_text() == "a line\nwithout an end"
