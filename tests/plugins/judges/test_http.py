"""``http`` and ``steer serve-reward``: real servers, killed, slowed and misbehaving, and requests that are none."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from PIL import Image
from support import processes
from support.judge_server import JudgeServer, judge_server

from steer import Prompt, RewardError, SteerError
from steer.models.media import media_of
from steer.models.media.text import Texts
from steer.registry.plugins import manager
from steer.rewards.by_name import make_reward
from steer.rewards.checked import checked
from steer.testing import check_reward, example_samples
from steer_judges.http import Http, HttpOptions
from steer_judges.protocol import BadAnswer, info_from, read_request, request_text, scores_from

REWARDS = """
import time, torch

def slow(samples, prompts):
    time.sleep(0.3)
    return samples.mean(dim=(1, 2, 3))

def picky(samples, prompts):
    if "bug" in prompts: raise KeyError("kaput")
    if "nan" in prompts: return samples.mean(dim=(1, 2, 3)) * float("nan")
    if "room" in prompts: raise torch.OutOfMemoryError("CUDA out of memory")
    return torch.tensor([prompt.metadata.get("score", 0.5) for prompt in prompts])
"""


class Served:
    """``steer serve-reward`` as a process."""

    def __init__(self, folder: Path, name: str, *more: str, environment: dict[str, str] | None = None) -> None:
        (folder / "rewards.py").write_text(REWARDS)
        self.folder, self.name, self.more, self.environment = folder, name, more, environment
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments: list[object] = ["serve-reward", self.name, "--port", self.port, *self.more]
        self.child: ForkServerProcess = processes.start(arguments, self.folder, environment=self.environment)
        output = self.folder / "output.txt"
        until = time.monotonic() + 60
        while time.monotonic() < until and self.child.is_alive():
            if output.is_file() and (found := re.search(r"at http://127\.0\.0\.1:(\d+)", output.read_text())):
                self.port = int(found[1])
                return
            time.sleep(0.05)
        raise AssertionError(output.read_text())

    def post(self, body: Any, path: str = "/score", **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        how = {"Content-Type": "application/json", **headers}
        answer = requests.post(self.url + path, data=data, headers=how, timeout=20)
        return answer.status_code, answer.json()


@contextmanager
def served(folder: Path, name: str, *more: str, environment: dict[str, str] | None = None) -> Iterator[Served]:
    """Serve a reward until the block ends."""
    server = Served(folder, name, *more, environment=environment)
    try:
        yield server
    finally:
        server.child.kill()
        server.child.join()


@pytest.fixture(scope="module")
def picky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("picky"), "./rewards.py:picky") as server:
        yield server


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    with judge_server() as server:
        yield server


def http(url: str, **options: Any) -> Http:
    return Http(HttpOptions(**{"url": url, "retries": 1, "timeout": 5, **options}))


def png(color: str = "red", size: tuple[int, int] = (8, 8), mode: str = "RGB") -> str:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


# ---- a served reward is that reward ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_served_reward_scores_as_it_does_here(tmp_path: Path) -> None:
    samples, prompts = example_samples()
    samples, prompts = samples[::40], prompts[::40]
    here = make_reward(["shapes:2"], {}, manager(), torch.device("cpu"))
    assert here is not None
    with served(tmp_path, "shapes:2") as server:
        reward = http(server.url, batch=4)
        assert reward.info.as_dict() == {"reward": "shapes:2", "modality": "image", "needs_prompt": True}
        rounded = media_of("image").samples(media_of("image").values(samples), torch.device("cpu"))
        assert torch.equal(reward(samples, prompts), here(rounded, prompts))
        check_reward(reward, samples, prompts, name="http").require()
        by_name = make_reward([f"http:{server.url}:0.5"], {}, manager(), torch.device("cpu"))
        assert by_name is not None and torch.allclose(by_name(rounded, prompts), here(rounded, prompts) / 2)
        with pytest.raises(SteerError, match="serves shapes:2, which scores images, not texts"):
            reward(Texts(["a"]), ["b"])


@pytest.mark.slow
def test_texts_are_served_too_and_need_no_prompt(tmp_path: Path) -> None:
    with served(tmp_path, "length") as server:
        reward = http(server.url)
        assert not reward.needs_prompt
        assert reward(Texts(["one two", "one"]), ["", ""]).tolist() == [2.0, 1.0]
        assert server.post({"images": [png()], "prompts": ["a"]})[0] == 422


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_changes_no_score(tmp_path: Path) -> None:
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with served(tmp_path, "./rewards.py:slow") as server:
        reward = http(server.url, batch=2, retries=8, timeout=20)
        expected = reward(images, ["a"] * 8)

        def crash() -> None:
            time.sleep(0.7)
            server.child.kill()
            server.child.join()
            server.start()

        thread = threading.Thread(target=crash)
        thread.start()
        assert torch.equal(reward(images, ["a"] * 8), expected)
        thread.join()


# ---- failures -------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "slow": ({"sleep": 2.0}, r"did not answer within 0\.5 s; raise http\.timeout, or lower http\.batch \(2 tries\)$"),
    "a byte now and then": ({"drip": 0.1}, r"did not answer within 0\.5 s; raise http\.timeout.* \(2 tries\)$"),
    "429": ({"status": 429}, r"answered 429 \(.*failing.*\) \(2 tries\)$"),
    "500": ({"status": 500}, r"answered 500 \(.*failing.*\) \(2 tries\)$"),
    "cut": ({"cut": 5}, r"cannot be reached \(.*\); start it by `steer serve-reward NAME`, or correct"),
    "not JSON": ({"body": "<html>"}, r"cannot be used: it is not JSON; it was '<html>' \(2 tries\)$"),
    "no scores": ({"body": '{"score": 1}'}, r"'scores' holds null, expected 2 numbers; it was '{\"score\": 1}'"),
    "too few": ({"body": '{"scores": [1]}'}, "'scores' holds 1 numbers, expected 2"),
    "NaN": ({"body": '{"scores": [1, NaN]}'}, "its score is nan, expected a finite number; it was"),
    "text": ({"body": '{"scores": [1, "2"]}'}, "its score is 2, expected a finite number"),
    "400": ({"status": 400}, r"answered 400 \(.*failing"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_is_an_error_that_names_the_prompt_and_one_that_passes_is_none(
    judge: JudgeServer, fault: str
) -> None:
    reward = http(judge.url.removesuffix("/v1"), timeout=0.5)
    images, prompts = torch.zeros(2, 3, 8, 8), ["a red circle", "a blue square"]
    images[1, 2] = 1
    how, message = FAULTS[fault]
    judge.misbehave({**how, "times": 2})
    began = time.monotonic()
    named = "a blue square" if fault in ("NaN", "text") else "a red circle' and 1 more"
    with pytest.raises(SteerError, match=rf"http: no score for prompt '{named}.*{message}"):
        checked("http", reward, images, prompts)
    assert time.monotonic() - began < 4
    judge.misbehave(*[how] * (fault != "400"))
    assert reward(images, prompts).tolist() == pytest.approx([0.02, 0.98])


def test_a_server_that_is_down_or_another_is_named(judge: JudgeServer) -> None:
    with pytest.raises(
        RewardError, match=r"http: http://127\.0\.0\.1:9 cannot be reached \(.*refused.*\); start it by"
    ):
        http("http://127.0.0.1:9")
    with pytest.raises(SteerError, match=r"http: http://.*/v1 answered 404"):
        http(judge.url)
    with pytest.raises(
        SteerError, match=r"http: set -o http\.url=ADDRESS, or name it as in http:http://localhost:8100"
    ):
        Http()


# ---- requests that are none -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"), (b"[" * 100_000, "not JSON"), ([], 'either "images" or "texts"'), ({}, "either"),
        ({"images": [], "texts": []}, "either"), ({"images": [], "prompts": []}, "got 0 images, 0 prompts"),
        ({"images": "x", "prompts": ["a"]}, '"images" is not a list of texts'),
        ({"images": [png()], "prompts": ["a", "b"]}, "got 1 images, 2 prompts and 2 rows"),
        ({"images": [png()], "prompts": ["a"], "rows": [3]}, '"rows" is not a list of objects'),
        ({"images": ["%%"], "prompts": ["a"]}, "image 1 is not base64"),
        ({"images": [base64.b64encode(b"GIF89a").decode()], "prompts": ["a"]}, "image 1 cannot be read"),
        ({"images": [png(size=(8000, 8000), mode="1")], "prompts": ["a"]}, "more than 50,000,000"),
        ({"images": [png(size=(6000, 6000), mode="1")] * 2, "prompts": ["a", "b"]}, "pixels together; send fewer"),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_answered_by_what_is_wrong(picky: Served, body: Any, message: str) -> None:
    status, answer = picky.post(body)
    assert status == 422 and message in answer["error"]
    assert picky.post({"images": [png()], "prompts": ["a"]}) == (200, {"scores": [0.5]})


@pytest.mark.slow
def test_a_rewards_errors_are_answers_and_other_types_are_refused(picky: Served) -> None:
    for prompt, status, message in (("bug", 500, "KeyError"), ("nan", 500, "finite"), ("room", 503, "out of memory")):
        got, answer = picky.post({"images": [png()], "prompts": [prompt]})
        assert got == status and message in answer["error"]
    assert picky.post({"images": [png()], "prompts": ["a"]}, **{"Content-Type": "text/plain"})[0] == 415
    assert requests.get(picky.url, timeout=5).json() == {
        "reward": "./rewards.py:picky", "modality": None, "needs_prompt": True,
    }  # fmt: skip


@pytest.mark.slow
def test_images_of_several_sizes_and_rows_are_scored_in_order(picky: Served) -> None:
    sizes = [(8, 8), (4, 8), (8, 8), (4, 8)]
    rows = [{"score": number} for number in range(4)]
    status, answer = picky.post({"images": [png(size=size) for size in sizes], "prompts": list("abcd"), "rows": rows})
    assert (status, answer) == (200, {"scores": [0.0, 1.0, 2.0, 3.0]})
    reward = http(picky.url)
    prompts = [Prompt("a", metadata={"score": 0.25}), Prompt("b")]
    assert reward(torch.zeros(2, 3, 8, 8), prompts).tolist() == [0.25, 0.5]


def test_requests_and_answers_are_those_of_the_contract() -> None:
    images = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    back, prompts = read_request(request_text(images, ["a", Prompt("b", metadata={"k": [1]})]).encode())
    assert (torch.stack(list(back)) - images).abs().max() <= 0.5 / 255 + 1e-6
    assert prompts == ["a", "b"] and [prompt.metadata for prompt in prompts] == [{}, {"k": [1]}]
    assert json.loads(request_text(Texts(["x"]), ["a"])) == {"prompts": ["a"], "texts": ["x"]}
    assert scores_from('{"scores": [1, 2.5]}', 2) == [1.0, 2.5]
    assert info_from('{"reward": "x"}').modality is None
    for wrong in ("", "[]", "{}", '{"reward": 3}', '{"reward": "x", "modality": "smell"}'):
        with pytest.raises(BadAnswer):
            info_from(wrong)


# ---- keys and the command line --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_key_is_needed_if_the_server_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, "jpeg", environment={"STEER_REWARD_KEY": "right-123"}) as server:
        monkeypatch.delenv("STEER_REWARD_KEY", raising=False)
        with pytest.raises(
            SteerError, match="asks for a key, and there is none in the environment variable STEER_REWARD"
        ):
            http(server.url)
        monkeypatch.setenv("STEER_REWARD_KEY", "wrong-456")
        with pytest.raises(SteerError, match=r"refuses the key in the environment variable STEER_REWARD_KEY; set it$"):
            http(server.url)
        assert server.post({"images": [png()], "prompts": ["a"]})[0] == 401
        monkeypatch.setenv("STEER_REWARD_KEY", "right-123")
        assert http(server.url)(torch.zeros(1, 3, 8, 8), [""]).item() < 0
        assert "123" not in (tmp_path / "output.txt").read_text()


@pytest.mark.slow
def test_generate_and_score_by_a_served_reward(picky: Served, steer: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = steer(
        "generate", "a red circle", "--plugin", "best-of-n", "-o", "best-of-n.n=2", "--steps", "2", "--reward", "http",
        "-o", f"http.url={picky.url}", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    (item,) = json.loads((out / "result.json").read_text())["items"]
    assert {particle["reward"] for particle in item["particles"]} == {0.5}
    scored = steer("score", out, "--reward", f"http:{picky.url}@0..1:2", "--csv")
    assert scored.code == 0 and scored.out.splitlines()[1].endswith(",1.0")
    message = steer(
        "score", out, "--reward", "http", "-o", "http.url=http://127.0.0.1:9", "-o", "http.retries=0"
    ).error()
    assert message.startswith("http: http://127.0.0.1:9 cannot be reached") and message.endswith("(one try)")


@pytest.mark.slow
def test_mistakes_of_serve_reward_are_one_line(picky: Served, steer: Callable) -> None:
    assert "unknown reward 'hsp'" in steer("serve-reward", "hsp").error()
    assert (
        "option clip.model is for 'clip', which is not active"
        in steer("serve-reward", "jpeg", "-o", "clip.model=x").error()
    )
    busy = steer("serve-reward", "jpeg", "--port", picky.port).error()
    assert busy == f"cannot listen at 127.0.0.1:{picky.port} (Address already in use); choose another --port"
