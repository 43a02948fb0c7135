"""The queue: order, bounds, stops, and what a later server finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steer import RewardError, SteerError
from steer.plugin import StorageError
from steer_live.jobs import IMAGES, Job
from steer_live.journal import LOG, Journal
from steer_live.observer import Stopped, Tell
from steer_live.queue import FullError, Queue


class Slow:
    """Runs jobs that wait until they may end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = threading.Semaphore(0)
        self.began = threading.Semaphore(0)

    def __call__(self, job: Job, tell: Tell, stop: threading.Event) -> None:
        self.begun.append(job.title)
        self.began.release()
        while not self.go.acquire(timeout=0.01):
            if stop.is_set():
                raise Stopped
        if job.title == "mistake":
            raise SteerError("expected something else")
        if job.title == "bug":
            raise KeyError("kaput")
        if job.title == "reward":
            raise RewardError("reward 'mine' returned NaN")


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def queue(tmp_path: Path, slow: Slow) -> Iterator[Queue]:
    made = Queue(slow, Journal(tmp_path), most=3)
    made.start()
    yield made
    made.close()


def job(title: str) -> Job:
    return Job(IMAGES, {}, [{"prompt": title, "id": title}], title=title)


def ended(queue: Queue, one: Job) -> Job:
    return queue.end_of(one).result(timeout=20)


def test_jobs_run_in_order_and_more_than_fit_are_refused(queue: Queue, slow: Slow) -> None:
    jobs = [job(title) for title in "abcd"]
    queue.submit(jobs[0])
    slow.began.acquire(timeout=20)
    queue.submit(*jobs[1:3])
    with pytest.raises(FullError, match="2 jobs wait"):
        queue.submit(job("x"), job("y"))  # all or none
    queue.submit(jobs[3])
    assert [queue.place_of(one) for one in jobs] == [0, 1, 2, 3]
    with pytest.raises(FullError, match="3 jobs wait"):
        queue.submit(job("x"))
    slow.go.release(4)
    assert [ended(queue, one).status for one in jobs] == ["done"] * 4
    assert slow.begun == list("abcd")
    assert [one.title for one in queue.jobs()] == list("dcba")


def test_a_failed_job_says_whose_fault_it_was_and_the_next_one_runs(queue: Queue, slow: Slow) -> None:
    slow.go.release(4)
    mistake, bug, reward, good = jobs = [job(title) for title in ("mistake", "bug", "reward", "good")]
    for one in jobs:
        queue.submit(one)
        ended(queue, one)
    assert (mistake.status, mistake.failure, mistake.mistaken) == ("failed", "expected something else", True)
    assert (bug.status, bug.failure, bug.mistaken) == ("failed", "KeyError: 'kaput'", False)
    assert (reward.status, reward.mistaken) == ("failed", False)
    assert good.status == "done"


def test_a_full_disk_ends_no_queue(tmp_path: Path, slow: Slow) -> None:
    class Full(Journal):
        def write(self, job: Job) -> None:
            if not job.open:
                raise StorageError("output folder cannot be written to (No space left on device)")
            super().write(job)

    queue, jobs = Queue(slow, Full(tmp_path), most=3), [job("a"), job("b")]
    queue.start()
    slow.go.release(2)
    queue.submit(*jobs)
    assert [ended(queue, one).status for one in jobs] == ["done", "done"]
    queue.close()


def test_a_job_can_be_stopped_while_it_waits_and_while_it_runs(queue: Queue, slow: Slow) -> None:
    running, waiting, last = job("running"), job("waiting"), job("last")
    queue.submit(running)
    slow.began.acquire(timeout=20)
    queue.submit(waiting, last)
    queue.stop(waiting)
    queue.stop(running)
    assert [ended(queue, one).status for one in (waiting, running)] == ["stopped", "stopped"]
    slow.go.release()
    assert ended(queue, last).status == "done"
    queue.stop(last)  # it is over
    assert last.status == "done"
    assert slow.begun == ["running", "last"]


def test_a_job_that_ended_begins_again_if_there_is_room(queue: Queue, slow: Slow) -> None:
    first, others = job("first"), [job(title) for title in "abcd"]
    slow.go.release()
    queue.submit(first)
    ended(queue, first)
    queue.submit(others[0])
    for _ in range(2):
        slow.began.acquire(timeout=20)
    queue.submit(*others[1:])
    with pytest.raises(FullError):
        queue.submit(first)
    assert first.status == "done"
    queue.stop(others[-1])
    queue.submit(first)
    with pytest.raises(SteerError, match="in the queue already"):
        queue.submit(first)
    slow.go.release(4)
    assert ended(queue, first).status == "done" and slow.begun == ["first", "a", "b", "c", "first"]


def test_a_server_that_ended_goes_on_with_its_queue(tmp_path: Path, slow: Slow) -> None:
    first, jobs = Queue(slow, Journal(tmp_path), most=5), [job(title) for title in "abc"]
    first.start()
    slow.go.release()
    first.submit(*jobs)
    ended(first, jobs[0])
    slow.began.acquire(timeout=20)
    slow.began.acquire(timeout=20)
    waits = first.end_of(jobs[2])
    first.close()
    assert waits.cancelled()
    with pytest.raises(FullError):
        first.submit(job("late"))
    with (tmp_path / LOG).open("ab") as log:
        log.write(b'{"kind": "images"}\nnonsense\n{"cut off')

    again = Queue(slow, Journal(tmp_path), most=5)
    assert again.start() == 2
    slow.go.release(2)
    for one in jobs[1:]:
        found = again.get(one.id)
        assert found is not None and ended(again, found).status == "done"
    assert slow.begun == ["a", "b", "b", "c"]
    again.close()
    assert [one.status for one in Journal(tmp_path).read()] == ["done"] * 3
    assert len((tmp_path / LOG).read_text().splitlines()) == 3 + 2  # one each as it began, and the ends of two


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with Journal(tmp_path).held(), pytest.raises(SteerError, match="in use"), Journal(tmp_path).held():
        pass
