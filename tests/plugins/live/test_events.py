"""Events of a job: the same for every reader, in order, resumed where a reader was cut off."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import pytest
from support.live_server import Live

from steer import Sampler
from steer_live.channel import Channel

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

    request = urllib.request.Request(f"{live.url}/api/jobs/{job}/events", headers={"Last-Event-ID": "3"})
    with urllib.request.urlopen(request) as stream:
        assert stream.read().count(b"event: ") == 2


@pytest.mark.slow
def test_one_image_of_several_is_redone_as_it_was(live: Live) -> None:
    asked = {**ASKED, "n": 2, "previews": 0, "steer": {**ASKED["steer"], "steps": 2}}  # type: ignore[dict-item]
    job = live.ask("/api/jobs", asked)[1]["jobs"][0]["id"]
    files = live.ended(job)["files"]
    assert len(files) == 2 and files[0]["seed"] == 5
    again = live.ask(f"/api/jobs/{job}/again", {"file": 1})[1]["jobs"][0]["id"]
    redone = live.ended(again)["files"]
    assert [file["seed"] for file in redone] == [files[1]["seed"]]
    assert live.ask(f"/files/{again}/0")[1] == live.ask(f"/files/{job}/1")[1]
    assert live.ask(f"/api/jobs/{job}/again", {"file": 2})[0] == 400
    assert live.ask("/api/jobs/nothing/again", {})[0] == 404
