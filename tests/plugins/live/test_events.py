"""Events of a job: the same for every reader, in order, resumed where a reader was cut off."""

from __future__ import annotations

import asyncio
import io
import json
import re
import urllib.request
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.live_server import Live

from steer import Sampler
from steer_live.channel import Channel

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
ASKED = {"prompt": "a red circle", "seed": 5, "steer": {"method": "fk", "reward": "shapes", "particles": 3, "steps": 4}}


def read(channel: Channel, start: int = 0) -> list[dict[str, Any]]:
    async def collect() -> list[bytes]:
        return [event async for event in channel.follow(start)]

    return [json.loads(event.decode().partition("data: ")[2]) for event in asyncio.run(collect())]


def test_readers_get_all_from_where_they_begin_and_the_oldest_go_first() -> None:
    channel = Channel(most=400)
    for number in range(5):
        channel.put("step", {"number": number})
    channel.close()
    channel.put("step", {"number": 9})
    assert [event["number"] for event in read(channel)] == [0, 1, 2, 3, 4]
    assert [event["number"] for event in read(channel, 3)] == [3, 4]
    small = Channel(most=100)
    for number in range(50):
        small.put("step", {"number": number})
    small.close()
    kept = [event["number"] for event in read(small)]
    assert kept == list(range(kept[0], 50)) and 1 <= len(kept) < 5
    assert read(small, 3) == read(small)


@pytest.mark.slow
def test_the_steps_of_a_job_are_those_of_its_trace(live: Live, shapes: Sampler) -> None:
    status, answer = live.ask("/api/jobs", ASKED)
    assert status == 202
    job = answer["jobs"][0]["id"]
    events = list(live.events(job))
    steps = [data for kind, data in events if kind == "step"]
    assert [kind for kind, _ in events] == ["step"] * 5 + ["end"]
    assert [(data["step"], data["slots"], len(data["pictures"])) for data in steps] == [
        (step, [0, 1, 2], 3) for step in range(5)
    ]
    assert all(picture.startswith("data:image/webp;base64,") for data in steps for picture in data["pictures"])
    trace = shapes.generate(
        ASKED["prompt"], methods="fk", reward="shapes", particles=3, steps=4, seed=5, run_seed=0
    ).items[0].trace  # fmt: skip
    assert [event for data in steps for event in data["events"]] == trace["events"]
    assert {event["kind"] for event in trace["events"]} >= {"reward", "resample", "fk"}
    assert list(live.events(job)) == events  # a late reader

    def count(seen: str) -> int:
        request = urllib.request.Request(f"{live.url}/api/jobs/{job}/events", headers={"Last-Event-ID": seen})
        with urllib.request.urlopen(request) as stream:
            return stream.read().count(b"event: ")

    with urllib.request.urlopen(f"{live.url}/api/jobs/{job}/events") as stream:
        ids = re.findall(rb"^id: (.+)$", stream.read(), re.MULTILINE)
    assert [count(seen.decode()) for seen in ids[2:4]] == [3, 2]
    assert count("12345678.3") == 6  # of a server before this one, whose job began anew


@pytest.mark.thorough
@pytest.mark.slow
def test_one_image_of_several_is_redone_as_it_was(live: Live) -> None:
    asked = {**ASKED, "n": 2, "previews": 0, "steer": {**ASKED["steer"], "steps": 2}}  # type: ignore[dict-item]
    job = live.ask("/api/jobs", asked)[1]["jobs"][0]["id"]
    files = live.ended(job)["files"]
    assert len(files) == 2 and files[0]["seed"] == 5
    again = live.ask(f"/api/jobs/{job}/again", {"file": "1-0"})[1]["jobs"][0]["id"]
    redone = live.ended(again)["files"]
    assert [file["seed"] for file in redone] == [files[1]["seed"]]
    assert live.ask(f"/files/{again}/0-0")[1] == live.ask(f"/files/{job}/1-0")[1]
    assert live.ask(f"/api/jobs/{job}/again", {"file": "2-0"})[0] == 400
    assert live.ask("/api/jobs/nothing/again", {})[0] == 404


@pytest.mark.slow
def test_a_sample_that_others_do_not_change_is_redone_alone(live: Live) -> None:
    steer = {"method": "best-of-n", "options": {"best-of-n": {"n": 3}}, "reward": "shapes", "steps": 3}
    asked = {"prompt": "a red circle", "seed": 4294967294, "previews": None, "steer": steer}
    job = live.ask("/api/jobs", asked)[1]["jobs"][0]["id"]
    (best,) = live.ended(job)["files"]
    row = live.ask(f"/api/jobs/{job}")[1]
    for slot in range(3):
        again = live.ask(f"/api/jobs/{job}/again", {"prompt": best["id"], "slot": slot})[1]["jobs"][0]
        assert (again["values"]["plugin"], again["values"]["particles"]) == ([], 1)
        assert again["seed"] == (row["seed"] + slot) % 2**32
        (redone,) = live.ended(again["id"])["files"]
        if slot == best["slot"]:
            pictures = [live.ask(f"/files/{one}/0-0")[1] for one in (job, again["id"])]
            first, second = (np.asarray(Image.open(io.BytesIO(data)), dtype=int) for data in pictures)
            assert abs(first - second).max() <= 1  # a forward of one row rounds otherwise
            assert redone["reward"] == pytest.approx(best["reward"], abs=1e-3)
    assert live.ask(f"/api/jobs/{job}/again", {"prompt": "another", "slot": 0})[0] == 400
    assert live.ask(f"/api/jobs/{job}/again", {"prompt": best["id"], "slot": "0"})[0] == 400


@pytest.mark.slow
def test_a_prompt_file_goes_on_where_it_was_stopped(live: Live) -> None:
    # each in its own pack, for its steps are its own
    rows = [{"prompt": "a red circle", "id": f"p{steps}", "steps": steps} for steps in (2, 3, 4, 5)]
    parts = (
        ('name="file"; filename="p.jsonl"', "".join(f"{json.dumps(row)}\n" for row in rows)),
        ('name="steer"', json.dumps({"seed": 3})),
    )
    body = "".join(f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{text}\r\n" for head, text in parts)
    status, answer = live.ask("/api/renders", f"{body}--b--\r\n".encode(), **FORM)
    assert status == 202
    job = answer["jobs"][0]["id"]
    assert live.ask(f"/api/jobs/{job}/again", {})[0] == 409
    for kind, _ in live.events(job):
        if kind == "files":
            live.ask(f"/api/jobs/{job}/stop", {})
    stopped = live.ended(job)
    assert stopped["status"] == "stopped" and 1 <= len(stopped["files"]) < 4
    images = {file: file.stat().st_mtime_ns for file in (live.folder / job / "images").iterdir()}
    live.ask(f"/api/jobs/{job}/again", {})
    done = live.ended(job)
    assert (done["status"], [file["key"] for file in done["files"]]) == ("done", [f"{place}-0" for place in range(4)])
    assert all(file.stat().st_mtime_ns == before for file, before in images.items())
    assert (live.folder / job / "index.html").is_file()


@pytest.mark.parametrize("previews", [-1, True, "8", [8], 1.5])
def test_previews_that_are_no_number_are_refused(live: Live, previews: object) -> None:
    status, answer = live.ask("/api/jobs", {**ASKED, "previews": previews})
    assert (status, answer["error"]["param"]) == (400, "previews")


def test_a_prompt_file_may_name_no_files_and_set_no_texts(live: Live) -> None:
    def refused(row: object, name: str = "p.jsonl") -> str:
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        status, answer = live.ask(
            "/api/renders", f"--b\r\n{head}\r\n\r\n{json.dumps(row)}\r\n--b--\r\n".encode(), **FORM
        )
        assert status == 400
        return answer["error"]["message"]

    assert "names mask, an input" in refused({"prompt": "a", "mask": "/etc/passwd"})
    assert "takes a text" in refused({"prompt": "a", "options": {"dmd2": {"student": "/etc/passwd"}}})
    assert "expected one that ends in" in refused({"prompt": "a"}, "p.parquet")
    assert "expected int" in refused({"prompt": "a", "steps": "many"})
