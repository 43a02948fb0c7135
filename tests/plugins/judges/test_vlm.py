"""``vlm`` against a real server process and with the real client: scores, failures, what is kept, and keys."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import processes
from support.judge_server import MODEL, JudgeServer, judge_server

from steer import Prompt, RewardError, SteerError
from steer.rewards.checked import checked
from steer.settings.options import build
from steer.testing import check_reward
from steer_judges.addresses import checked_url, is_local
from steer_judges.vlm import Vlm, VlmOptions

PROMPT = "a red circle"


def plain(color: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(color, dtype=torch.float32)[:, None, None].expand(3, 16, 16)


RED, BLUE, BLACK = plain((1, 0, 0)), plain((0, 0, 1)), plain((0, 0, 0))
IMAGES = torch.stack([RED, BLUE, BLACK])
PROMPTS = ["a red circle", "a blue square", "a red circle"]
EXPECTED = [0.98, 0.98, 0.02]


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with judge_server() as server:
        yield server


@pytest.fixture(autouse=True)
def calm(server: JudgeServer) -> Iterator[None]:
    server.requests()
    yield
    server.misbehave()


def vlm(server: JudgeServer, **options: Any) -> Vlm:
    return Vlm(VlmOptions(**{"url": server.url, "cache": None, "timeout": 5, "retries": 1, **options}), argument=MODEL)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_it_scores_by_the_probability_of_yes(server: JudgeServer) -> None:
    reward = vlm(server)
    asked = server.requests()
    assert len(asked) == 2 and {one["fields"]["model"] for one in asked} == {MODEL}  # black and a red circle
    assert reward(IMAGES, PROMPTS).tolist() == pytest.approx(EXPECTED, abs=1e-6)
    asked = server.requests()
    assert {one["text"] for one in asked} == {
        f'Does this image show "{prompt}"? Answer with yes or no.' for prompt in PROMPTS
    }
    fields = {"temperature": 0, "seed": 0, "logprobs": True, "top_logprobs": 20, "max_completion_tokens": 8}
    assert asked[0]["fields"] == {"model": MODEL, **fields}


def test_the_rows_questions_are_averaged_and_soft_tifa_counts_every_answer(server: JudgeServer) -> None:
    row = Prompt("scene", metadata={"questions": ["is there something red?", "is there something blue?"]})
    assert vlm(server)(RED[None], [row]).tolist() == pytest.approx([(0.98 + 0.02) / 2], abs=1e-6)
    geometric = vlm(server, combine="geometric")
    assert geometric(RED[None], [row]).item() == pytest.approx(math.sqrt(0.98 * 0.02), abs=1e-6)
    pairs = [["How many red things are there?", "three"], ["Are they red?", "Yes"]]
    soft = vlm(server)(RED[None], [Prompt("scene", metadata={"vqa_list": pairs})])
    assert soft.item() == pytest.approx((0.5 + 0.1 + 0.15 + 0.95 * 0.98) / 2, abs=1e-6)
    assert server.requests()[-1]["text"].endswith("? Answer in one word.")
    assert vlm(server, question="Is it blue, not {prompt}?")(BLUE[None], [row]).item() == pytest.approx(0.98, abs=1e-6)
    with pytest.raises(SteerError, match="got 'x' as 'vqa_list'"):
        vlm(server).completed(Prompt("scene", metadata={"vqa_list": "x"}))


@pytest.mark.parametrize("mode", ["rubric", "answer"])
def test_other_modes_need_no_log_probabilities(server: JudgeServer, mode: str) -> None:
    reward = vlm(server, mode=mode, aspects=("style", "prompt following"), tokens=500)
    assert reward(IMAGES, PROMPTS).tolist() == [1.0, 1.0, 0.0]
    asked = server.requests()[-1]
    assert "logprobs" not in asked["fields"] and asked["fields"]["max_completion_tokens"] == 500
    if mode == "rubric":
        schema = asked["fields"]["response_format"]["json_schema"]["schema"]
        assert list(schema["properties"]["aspects"]["properties"]) == ["style", "prompt following"]


def test_the_request_can_be_extended(server: JudgeServer) -> None:
    vlm(server, extra='{"chat_template_kwargs": {"enable_thinking": false}, "temperature": 1}')
    fields = server.requests()[0]["fields"]
    assert fields["chat_template_kwargs"] == {"enable_thinking": False} and fields["temperature"] == 1
    for wrong in ("x", "[1]"):
        with pytest.raises(SteerError, match=r"vlm\.extra: got '.*', expected a JSON object"):
            vlm(server, extra=wrong)


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(server: JudgeServer, tmp_path: Path) -> None:
    check_reward(vlm(server), IMAGES, PROMPTS, name="vlm").require()
    check_reward(vlm(server, cache=str(tmp_path)), IMAGES, PROMPTS, name="vlm, cached").require()


# ---- failures -------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "slow": ({"sleep": 2.0}, r"did not answer within 0.5 s, in 2 tries; raise vlm\.timeout"),
    "a byte now and then": ({"drip": 0.1}, r"did not answer within 0.5 s, in 2 tries; raise vlm\.timeout"),
    "429": ({"status": 429, "headers": {"Retry-After": "0.1"}}, r"answered 429 \(.*failing.*\), in 2 tries; lower"),
    "500": ({"status": 500}, r"answered 500 \(.*failing.*\), in 2 tries"),
    "cut": ({"cut": 40}, r"cannot be reached \(.*\), in 2 tries"),
    "not JSON": ({"body": "<html>oops</html>"}, r"cannot be used: it is not JSON; it was '<html>oops</html>'"),
    "no log-probabilities": ({"choice": {"logprobs": None}}, r"has no log-probabilities .*; it was '{\"id\""),
    "NaN": (
        {"choice": {"logprobs": {"content": [{"token": "Yes", "logprob": float("nan"), "top_logprobs": []}]}}},
        "its log-probability of 'Yes' is nan; it was",
    ),
    "empty": ({"choice": {"message": {"content": ""}}}, "cannot be used: it has no text"),
    "400": ({"status": 400}, r"answered 400 .*; change the request, by vlm\.mode or vlm\.extra"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_that_stays_is_an_error_within_its_bound_and_is_not_kept(
    server: JudgeServer, tmp_path: Path, fault: str
) -> None:
    reward = vlm(server, cache=str(tmp_path), timeout=0.5, concurrency=2)
    how, message = FAULTS[fault]
    server.misbehave({**how, "times": 20})
    began = time.monotonic()
    with pytest.raises(SteerError, match=rf"vlm: no score for prompt '(a red circle|a blue square)'.*{message}"):
        checked("vlm", reward, IMAGES, PROMPTS)
    assert time.monotonic() - began < 6
    assert files(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "400"])
def test_a_failure_that_passes_changes_no_score(server: JudgeServer, fault: str) -> None:
    reward = vlm(server, timeout=0.5, concurrency=1)
    server.misbehave(FAULTS[fault][0])
    assert reward(IMAGES, PROMPTS).tolist() == pytest.approx(EXPECTED, abs=1e-6)


def test_answers_that_came_before_a_failure_are_kept(server: JudgeServer, tmp_path: Path) -> None:
    reward = vlm(server, cache=str(tmp_path), concurrency=1, retries=0)
    server.misbehave({}, {}, {"status": 500})
    with pytest.raises(SteerError, match=r"answered 500 .*, in one try"):
        reward(IMAGES, PROMPTS)
    assert len(files(tmp_path)) == 2


def test_a_server_that_is_down_is_named() -> None:
    began = time.monotonic()
    with pytest.raises(
        SteerError,
        match=r"vlm: no answer to the check at the start: http://127\.0\.0\.1:9/v1 cannot be reached .*refused.*start",
    ):
        Vlm(VlmOptions(url="http://127.0.0.1:9/v1", retries=1), argument=MODEL)
    assert time.monotonic() - began < 5


def test_an_unknown_model_is_answered_with_those_that_there_are(server: JudgeServer) -> None:
    with pytest.raises(SteerError, match=f"answered 404 .*The model `big` does not exist.*; it has the models {MODEL}"):
        Vlm(VlmOptions(url=server.url, retries=0), argument="big")
    with pytest.raises(SteerError, match=r"answered 404 .* perhaps one that ends in /v1"):
        Vlm(VlmOptions(url=server.url.removesuffix("/v1"), retries=0), argument=MODEL)


def test_a_judge_that_does_not_see_is_found_at_the_start(server: JudgeServer) -> None:
    sure = {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": []}]}
    blind = {"choice": {"message": {"content": "Yes"}, "logprobs": sure}}
    server.misbehave(blind, blind)
    with pytest.raises(
        RewardError, match=r"gives a black image 1\.000 and a picture of a red circle .* 1\.000, .* not see"
    ):
        vlm(server)


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_changes_no_score(tmp_path: Path) -> None:
    with judge_server() as server:
        reward = vlm(server, concurrency=2, retries=8, timeout=10)
        images, prompts = torch.cat([(IMAGES + step / 50).clamp(0, 1) for step in range(4)]), PROMPTS * 4
        expected = reward(images, prompts)
        assert len(server.requests()) == 2 + 12
        server.misbehave({"sleep": 0.15, "times": 12})

        def crash() -> None:
            time.sleep(0.4)
            server.kill()
            time.sleep(0.6)
            server.start()

        thread = threading.Thread(target=crash)
        thread.start()
        scores = reward(images, prompts)
        thread.join()
        assert torch.equal(scores, expected)
        assert 0 < len(server.requests()) < 12  # of the second process: some were answered by the first


# ---- what is kept ---------------------------------------------------------------------------------------


def test_answers_are_kept_by_model_question_and_pixels(server: JudgeServer, tmp_path: Path) -> None:
    twice = torch.cat([IMAGES, IMAGES])
    first = vlm(server, cache=str(tmp_path))(twice, PROMPTS * 2)
    assert len(server.requests()) == 2 + 3 and len(files(tmp_path)) == 3  # equal images are asked about once
    again = vlm(server, cache=str(tmp_path))
    assert torch.equal(again(twice, PROMPTS * 2), first)
    assert len(server.requests()) == 2
    again(torch.stack([RED, BLACK]), ["a red square", "a red circle"])
    vlm(server, cache=str(tmp_path), mode="answer")(RED[None], [PROMPT])
    assert len(server.requests()) == 1 + 2 + 1 and len(files(tmp_path)) == 5
    kept = json.loads(files(tmp_path)[0].read_text())
    assert kept["model"] == MODEL and "Does this image show" in kept["asked"]


def test_a_damaged_answer_is_asked_for_again(server: JudgeServer, tmp_path: Path) -> None:
    reward = vlm(server, cache=str(tmp_path))
    scores = reward(IMAGES, PROMPTS)
    for file, damage in zip(files(tmp_path), (b"", b'{"reply": {"text": 3}}', b"\xff{["), strict=True):
        file.write_bytes(damage)
    server.requests()
    assert torch.equal(reward(IMAGES, PROMPTS), scores)
    assert len(server.requests()) == 3


def test_a_place_that_cannot_be_written_to_is_an_error(server: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SteerError, match=r"the cache of answers: .* choose another by the option cache, or none"):
        vlm(server, cache=str(tmp_path / "file"))(IMAGES, PROMPTS)


# ---- keys and addresses ---------------------------------------------------------------------------------


def test_keys_come_from_the_environment_and_reach_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with judge_server(key="sk-right-123") as server:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(
            SteerError, match="asks for a key, and there is none in the environment variable OPENAI_API_KEY"
        ):
            vlm(server)
        monkeypatch.setenv("MY_KEY", "sk-wrong-456")
        with pytest.raises(SteerError, match="refuses the key in the environment variable MY_KEY") as error:
            vlm(server, key_variable="MY_KEY")
        assert "sk-" not in str(error.value)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-right-123")
        reward = vlm(server, cache=str(tmp_path))
        server.misbehave({"status": 500}, {"status": 500})
        with pytest.raises(SteerError, match=r"failing for Bearer \*\*\*") as error:
            reward(RED[None], [PROMPT])
        assert "sk-" not in str(error.value)
        reward(RED[None], [PROMPT])
        assert all("sk-" not in file.read_text() for file in files(tmp_path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "got 'localhost:8000', expected an address such as http://localhost:8000"),
        ("ftp://u:secret@host/", "got 'ftp://host/', expected an address"),
        ("http://u:secret@host/v1", "an address with a user, a password or a query would put it into every recipe"),
        ("https://host/v1?key=secret", "an address with a user"),
    ],
)
def test_addresses_are_checked_and_hold_no_secret(url: str, message: str) -> None:
    with pytest.raises(SteerError, match=message) as error:
        checked_url(url, "vlm.url")
    assert "secret" not in str(error.value)


def test_this_machine_is_asked_without_a_proxy() -> None:
    assert checked_url("http://localhost:8000/v1/", "vlm.url") == "http://localhost:8000/v1"
    assert is_local("http://localhost:1/v1") and is_local("http://127.0.0.2/v1") and is_local("http://[::1]:1/v1")
    assert not is_local("http://gpu:8000/v1") and not is_local("http://10.0.0.1/v1")


def test_model_and_address_are_asked_for() -> None:
    with pytest.raises(SteerError, match="vlm: name the model, as in vlm:Qwen"):
        Vlm(VlmOptions(url="http://localhost:1/v1"))
    with pytest.raises(SteerError, match=r"vlm: set -o vlm\.url=ADDRESS"):
        Vlm(argument=MODEL)
    options = build(VlmOptions, {"cache": "none", "aspects": "a, b", "tokens": "9"}, "vlm")
    assert (options.cache, options.aspects, options.tokens) == (None, ("a", "b"), 9)  # type: ignore[attr-defined]


# ---- the command line -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_steers_and_judges_from_the_command_line_and_leaves_no_key(
    server: JudgeServer, steer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right-123")
    out = tmp_path / "out"
    done = steer(
        "--log", "log.txt", "generate", PROMPT, "--plugin", "best-of-n", "-o", "best-of-n.n=3", "--steps", "2",
        "--reward", f"vlm:{MODEL}", "-o", f"vlm.url={server.url}", "-o", f"vlm.cache={tmp_path / 'kept'}", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    (item,) = json.loads((out / "result.json").read_text())["items"]
    assert len(files(tmp_path / "kept")) == len(server.requests()) - 2 > 0
    assert all(0 < particle["reward"] < 1 for particle in item["particles"])
    for path in [*files(out), *files(tmp_path / "kept"), Path("log.txt")]:
        assert b"sk-right-123" not in path.read_bytes()
    scored = steer(
        "score", out, "--reward", f"vlm:{MODEL}", "-o", f"vlm.url={server.url}", "-o", "vlm.cache=none", "--csv"
    )
    assert scored.code == 0 and f"vlm:{MODEL}" in scored.out


@pytest.mark.slow
def test_a_command_ends_at_once_when_it_is_interrupted(server: JudgeServer, tmp_path: Path) -> None:
    from steer.models.media import media_of

    media_of("image").values(RED[None])[0].save(tmp_path / "red.png")
    arguments = ["score", "red.png", "--prompt", PROMPT, "--reward", f"vlm:{MODEL}", "-o", f"vlm.url={server.url}"]
    server.misbehave({}, {}, {"sleep": 60})
    child = processes.start([*arguments, "-o", "vlm.cache=none"], tmp_path)
    until = time.monotonic() + 60
    asked = 0
    while asked < 3 and time.monotonic() < until:
        time.sleep(0.1)
        asked += len(server.requests())
    began = time.monotonic()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    child.join(timeout=30)
    assert child.exitcode == 130 and time.monotonic() - began < 5
    assert (tmp_path / "output.txt").read_text().endswith("steer: interrupted\n")
