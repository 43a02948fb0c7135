"""OpenAI's images API, through OpenAI's own client and without it."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from support.live_server import SECONDS, Live, live_server

from steer import ModelOptions, Sampler
from steer.render.replay import read_recipe
from steer_live.jobs import Job

STEERED = {"method": "fk", "reward": "shapes", "particles": 2, "steps": 3}
PROMPT = "a red circle"
MINE = """
import steer

def white(samples, prompts): return samples.mean(dim=(1, 2, 3))

class Named(steer.Method):
    name = "named"
    class Options(steer.Options):
        text: str = steer.Field("", description="Any text.")
"""


def client(live: Live, key: str = "unused") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0)


def picture(data: str | bytes) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data)).convert("RGB")


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def body(**more: Any) -> dict[str, Any]:
    return {"prompt": PROMPT, "steer": {"steps": 1}, **more}


# ---- what is made ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_unmodified_client_gets_the_images_of_generate(live: Live, shapes: Sampler) -> None:
    made = client(live).images.generate(
        model="shapes", prompt=PROMPT, n=2, size="64x64", quality="auto", user="me", response_format="b64_json",
        extra_body={"seed": 7, "steer": STEERED},
    )  # fmt: skip
    assert made.data is not None and len(made.data) == 2
    first, second = made.data
    same_run = shapes.generate(PROMPT, methods="fk", reward="shapes", particles=2, steps=3, seed=7, width=64, height=64)
    assert same(picture(str(first.b64_json)), same_run.items[0].images[0])
    told: Any = first.steer  # type: ignore[attr-defined]
    assert (told["seed"], told["reward"]) == (7, same_run.items[0].reward)
    assert told["recipe"]["methods"] == ["fk"]
    assert first.b64_json != second.b64_json  # an independent sample

    folder = live.folder / made.steer["job"]  # type: ignore[attr-defined]
    files = sorted(folder.glob("*.png"))
    assert len([file for file in files if file.name != "sheet.png"]) == 2
    assert (folder / "result.json").is_file()
    recipe, _ = read_recipe(next(file for file in files if file.name.endswith(f"{told['slot']:03d}.png")))
    assert recipe.replayable and recipe.model == "shapes"


@pytest.mark.slow
def test_an_address_of_an_image_names_no_place_on_the_disk(live: Live) -> None:
    status, made = live.ask("/v1/images/generations", body(response_format="url"))
    assert status == 200
    url = made["data"][0]["url"]
    assert url == f"{live.url}/files/{made['steer']['job']}/0-0"
    with urllib.request.urlopen(url) as answer:
        assert picture(answer.read()).size == (64, 64)
    job = made["steer"]["job"]
    for path in (f"{job}/1-0", f"{job}/0", "nothing/0-0", f"..%2F{job}/0-0", f"{job}/..%2Fresult.json"):
        assert live.ask(f"/files/{path}")[0] == 404
    for name in ("..%2F..%2Fetc%2Fpasswd", "live.jsonl", f"{job}/result.json", f"{job}/../live.jsonl", "/etc/passwd"):
        assert live.ask(f"/gallery/{name}")[0] == 404
    status, page = live.ask("/gallery/")
    assert status == 200 and b"steer" in page
    assert live.ask(f"/gallery/{job}/sheet.png")[0] == 200


@pytest.mark.slow
def test_without_a_seed_images_differ(live: Live) -> None:
    seeds = [live.ask("/v1/images/generations", body())[1]["data"][0]["steer"]["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]


@pytest.mark.slow
def test_what_the_server_was_started_with_steers_requests_that_say_nothing(shapes: Sampler, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    mine, method = f"{tmp_path}/mine.py:white", f"{tmp_path}/mine.py:Named"
    values = {
        "plugin": ["fk", method], "reward": [mine], "steps": 2, "particles": 2, "seed": 5,
        "options": {"fk": {"lambda": 2.0}, "named": {"text": "as given"}, "prune": {"keep": 0.5}},
    }  # fmt: skip
    with live_server(shapes, tmp_path / "out", values=values) as live:
        made = client(live).images.generate(prompt=PROMPT)
        assert made.data is not None
        told: Any = made.data[0].steer  # type: ignore[attr-defined]
        recipe = told["recipe"]
        assert (told["seed"], recipe["methods"], recipe["reward"]) == (5, ["fk", method], [mine])
        assert recipe["options"]["fk"]["lambda"] == 2.0
        assert recipe["options"]["named"] == {"text": "as given"} and "prune" not in recipe["options"]
        plain = live.ask("/v1/images/generations", body(steer={"method": None, "reward": None, "particles": 1}))[1]
        assert plain["data"][0]["steer"]["recipe"]["methods"] == []
        assert live.ask("/v1/images/generations", body(steer={"reward": f"{tmp_path}/mine.py:other"}))[0] == 400


# ---- what is refused ------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"model": "dall-e-3"}, 404, "not served here", "model"),
    ({"prompt": ""}, 400, "expected a text", "prompt"),
    ({"prompt": ["a"]}, 400, "expected a text", "prompt"),
    ({"prompt": "a" * 32_001}, 400, "32,001 letters", "prompt"),
    ({"prompt": "\ud800"}, 400, "Unicode", None),
    ({"n": 0}, 400, "expected 1..10", "n"),
    ({"n": True}, 400, "expected 1..10", "n"),
    ({"n": 11}, 400, "expected 1..10", "n"),
    ({"size": "huge"}, 400, "WIDTHxHEIGHT", None),
    ({"size": "63x64"}, 400, "multiple of 4", None),
    ({"seed": -1}, 400, "expected an integer in 0..", None),
    ({"seed": "7"}, 400, "expected an integer", None),
    ({"stream": True}, 400, "expected false", "stream"),
    ({"output_format": "webp"}, 400, 'expected "png"', "output_format"),
    ({"background": "transparent"}, 400, "opaque", "background"),
    ({"response_format": "gif"}, 400, "b64_json or url", "response_format"),
    ({"promt": "a"}, 400, "did you mean 'prompt'", "promt"),
    ({"steer": "fk"}, 400, "expected an object", "steer"),
    ({"steer": {"metod": "fk"}}, 400, "did you mean 'method'", "steer.metod"),
    ({"steer": {"method": "fkk"}}, 400, "did you mean 'fk'", "steer.method"),
    ({"steer": {"method": 3}}, 400, "a name or a list", "steer.method"),
    ({"steer": {"method": "fk"}}, 400, "needs a reward", None),
    ({"steer": {"reward": "shapess"}}, 400, "did you mean 'shapes'", "steer.reward"),
    ({"steer": {"reward": "shapes:"}}, 400, "cannot read", None),
    ({"steer": {"reward": "min(shapes,./x.py:a)"}}, 400, "unknown reward './x.py'", "steer.reward"),
    ({"steer": {"reward": "clip:./weights"}}, 400, "may not say what clip loads", "steer.reward"),
    ({"steer": {"judge": "vlm:http://127.0.0.1:22"}}, 400, "may not say what vlm", "steer.judge"),
    ({"steer": {"method": "./mine.py"}}, 400, "unknown method", "steer.method"),
    ({"steer": {"method": "dmd2", "options": {"dmd2": {"student": "/etc"}}}}, 400, "takes a text", "steer.options"),
    ({"steer": {**STEERED, "options": {"fk": {"lambda": -1}}}}, 400, "fk.lambda: got -1", None),
    ({"steer": {**STEERED, "options": {"fk": 3}}}, 400, "expected {PLUGIN", "steer.options"),
    ({"steer": {"options": {"fk": {"lambda": 1}}}}, 400, "not active", None),
    ({"steer": {**STEERED, "budget": 9}}, 400, "fk keeps to no budget", "steer.budget"),
    ({"steer": {"particles": 4}}, 400, "name a reward", None),
    ({"steer": {"steps": "10"}}, 400, "expected int", None),
    ({"steer": {"steps": 1e400}}, 400, "JSON", None),
    ({"steer": {"inputs": {"image": "/etc/passwd"}}}, 400, "takes no inputs", None),
]  # fmt: skip


@pytest.mark.parametrize(("more", "status", "said", "param"), REFUSED)
def test_mistakes_are_told_as_openai_does(
    live: Live, more: dict[str, Any], status: int, said: str, param: str | None
) -> None:
    got, answer = live.ask("/v1/images/generations", body(**more))
    error = answer["error"]
    assert (got, error["type"]) == (status, "invalid_request_error")
    assert said in error["message"], error
    assert "\n" not in error["message"]
    assert param is None or error["param"] == param


def test_the_client_raises_what_it_raises_for_openai(live: Live) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client(live).images.generate(model="dall-e-3", prompt=PROMPT)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        client(live).images.generate(prompt=PROMPT, n=11)
    assert [model.id for model in client(live).models.list()] == ["shapes"]


def test_bodies_that_are_none_are_refused(live: Live) -> None:
    path = "/v1/images/generations"
    assert live.ask(path, b"{", **{"Content-Type": "application/json"})[0] == 400
    assert live.ask(path, b"[" * 100_000)[0] == 400
    assert live.ask(path, b"[]")[0] == 400
    assert live.ask(path, b"prompt=a", **{"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    assert live.ask("/v1/images/edits", b"{}")[0] == 415
    assert live.ask(path)[0] == 405
    assert live.ask("/v1/nothing")[0] == 404
    status, answer = live.ask(path, b" " * (2 * 1024**2))
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_an_upload_without_end_is_refused(live: Live) -> None:
    """Without a length, its size shows only as it comes."""
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as line:
        line.sendall(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        for _ in range(20):
            line.sendall(b"20000\r\n" + b" " * 0x20000 + b"\r\n")
        line.sendall(b"0\r\n\r\n")
        assert line.makefile("rb").readline().startswith(b"HTTP/1.1 413")


# ---- edits ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    options = ModelOptions(pipeline="StableDiffusionImg2ImgPipeline")
    with live_server(
        Sampler("shapes", model_options=options),
        tmp_path_factory.mktemp("edits"),
        values={"pipeline": options.pipeline},
    ) as server:
        yield server


def png(color: str = "red", side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_an_edit_is_the_image_of_generate_with_that_input(editing: Live, tmp_path: Path) -> None:
    steer = {
        "steps": 4, "method": "best-of-n", "reward": "shapes", "options": {"best-of-n": {"n": 2}},
        "inputs": {"strength": 0.5},
    }  # fmt: skip
    made = client(editing).images.edit(
        image=("../../photo.png", png()), prompt=PROMPT, n=1, extra_body={"seed": 3, "steer": steer}
    )
    assert made.data is not None
    (tmp_path / "photo.png").write_bytes(png())
    sampler = Sampler("shapes", model_options=ModelOptions(pipeline="StableDiffusionImg2ImgPipeline"))
    result = sampler.generate(
        PROMPT, methods="best-of-n", reward="shapes", options={"best-of-n": {"n": 2}}, steps=4, seed=3,
        inputs={"image": str(tmp_path / "photo.png"), "strength": 0.5},
    )  # fmt: skip
    assert same(picture(str(made.data[0].b64_json)), result.items[0].images[0])
    stored = made.data[0].steer["recipe"]["prompt"]["metadata"]["image"]["file"]  # type: ignore[attr-defined]
    assert Path(stored).parent == editing.folder / "uploads"


@pytest.mark.slow
def test_edits_that_cannot_be_made_are_told(editing: Live, live: Live) -> None:
    def refused(server: Live, said: str, **more: Any) -> None:
        with pytest.raises(openai.BadRequestError) as error:
            client(server).images.edit(**{"image": png(), "prompt": PROMPT, **more})
        assert said in str(error.value), error.value

    refused(live, "takes no image, so it makes no edits")
    refused(editing, "image 1 cannot be read", image=b"GIF89a")
    refused(editing, "takes none", mask=png())
    refused(editing, "expected an integer", extra_body={"seed": "x"})
    refused(editing, "inputs: image is a file", extra_body={"steer": {"inputs": {"image": "/etc/passwd"}}})
    refused(editing, "expected a number", extra_body={"steer": {"inputs": {"strength": "/etc/passwd"}}})
    status, answer = editing.ask("/v1/images/generations", body())
    assert status == 400 and "it takes image" in answer["error"]["message"], answer
    assert (
        editing.ask("/v1/images/edits", b" " * (51 * 1024**2), **{"Content-Type": "multipart/form-data; boundary=b"})[0]
        == 413
    )


# ---- load and tokens ------------------------------------------------------------------------------------


def resident_mb() -> float:
    """Return this process's memory."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.thorough)])
def test_every_request_of_many_clients_is_answered_or_refused_with_the_queues_length(
    shapes: Sampler, tmp_path: Path, rounds: int
) -> None:
    answers: list[tuple[int, Any]] = []
    memory: list[float] = []
    with live_server(shapes, tmp_path, most=6) as live:

        def ask() -> None:
            for _ in range(rounds):
                answers.append(live.ask("/v1/images/generations", body()))
                memory.append(resident_mb())

        clients = [threading.Thread(target=ask) for _ in range(20)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
    assert len(answers) == 20 * rounds
    if rounds > 2:  # the first hundred load what the others use
        assert max(memory[100:]) < memory[100] + 32
    made = [answer for status, answer in answers if status == 200]
    refused = [answer["error"] for status, answer in answers if status == 429]
    assert len(made) + len(refused) == len(answers) and made and refused
    assert all(error["code"] == "queue_full" and error["queue"] == 6 for error in refused)
    jobs = {answer["steer"]["job"] for answer in made}
    assert len(jobs) == len(made)
    lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines if line["status"] == "done"} == jobs


@pytest.mark.slow
def test_a_client_that_leaves_stops_its_job(live: Live) -> None:
    text = json.dumps(body(steer={"steps": 500})).encode()
    with socket.create_connection(("127.0.0.1", live.port)) as line:
        line.sendall(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
        )
        while not (jobs := live.queue.jobs()) or not jobs[0].open:  # others may have ended before
            time.sleep(0.01)
    assert live.queue.end_of(jobs[0]).result(timeout=60).status == "stopped"


def test_a_key_that_is_missing_is_openais_error(shapes: Sampler, tmp_path: Path) -> None:
    with live_server(shapes, tmp_path, token="right") as live:
        with pytest.raises(openai.AuthenticationError):
            client(live, "wrong").images.generate(prompt=PROMPT)
        assert client(live, "right").models.list().data[0].id == "shapes"


@pytest.mark.slow
def test_a_client_as_it_is_asks_once_for_a_job_that_was_stopped_failed_or_waits(
    shapes: Sampler, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("def broken(samples, prompts): raise KeyError('kaput')\n")
    raised: list[openai.APIStatusError] = []

    def ask(live: Live, **steer: Any) -> threading.Thread:
        unmodified = openai.OpenAI(base_url=f"{live.url}/v1", api_key="unused")

        def run() -> None:
            try:
                unmodified.images.generate(prompt=PROMPT, extra_body={"steer": steer})
            except openai.APIStatusError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def under_way(live: Live, count: int) -> Job:
        until = time.monotonic() + SECONDS
        while not (len(jobs := live.queue.jobs()) == count and jobs[0].status == "running"):
            assert time.monotonic() < until, jobs
            time.sleep(0.01)
        return jobs[0]

    with live_server(shapes, tmp_path, values={"reward": [f"{tmp_path}/mine.py:broken"]}) as live:
        ask(live, steps=1).join()
        stopped = ask(live, steps=500, reward=None)
        live.queue.stop(under_way(live, 2))
        stopped.join()
        waits = ask(live, steps=500, reward=None)
        last = under_way(live, 3)
    waits.join()
    assert [(type(error), error.code) for error in raised] == [
        (openai.InternalServerError, None), (openai.ConflictError, "stopped"), (openai.InternalServerError, "ending"),
    ]  # fmt: skip
    assert [error.status_code for error in raised] == [500, 409, 503] and "kaput" in raised[0].message
    assert len(live.queue.jobs()) == 3 and last.open


# ---- the docs -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_snippets_of_the_docs_run(
    live: Live, editing: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "live.md").read_text()
    generation, edit = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(png())
    names: dict[str, Any] = {}
    exec(generation.replace("http://127.0.0.1:8190", live.url), names)
    assert {path.name for path in tmp_path.glob("?.png")} == {"0.png", "1.png"}
    exec(edit, {**names, "client": client(editing)})
